-- Tells the gate what the log decided between two cursors.
-- ARGV: from, to, total, opens_ms, closes_ms, paused, ended, partition, rules_offset, number of holders, holders …,
-- then member, request id of each refusal.
-- Answers {0} when cold, {1, cursor} when `from` is not the gate's cursor, {2} when it moved to `to`.
local gate = redis.call('HMGET', GATE, 'state', 'run_id', 'cursor', 'rules_offset', 'total')
if not open_here(gate[1], gate[2]) then
    return {0}
end
if gate[3] ~= ARGV[1] then
    return {1, gate[3]}
end
local HEAD = 10
local holder_count = tonumber(ARGV[HEAD])
local total = tonumber(gate[5])
redis.call('HSET', GATE, 'cursor', ARGV[2])
-- Rules of an older snapshot than the gate's are left out; an older settler may still come with the right cursor.
if tonumber(ARGV[9]) >= tonumber(gate[4]) then
    total = tonumber(ARGV[3])
    redis.call('HSET', GATE, 'total', ARGV[3], 'opens_ms', ARGV[4], 'closes_ms', ARGV[5], 'paused', ARGV[6],
        'ended', ARGV[7], 'partition', ARGV[8], 'rules_offset', ARGV[9])
end

-- Holders first: whoever holds an issue stays in the set, and no refusal of another id may take him out.
if holder_count > 0 then
    local holders = {}
    for at = HEAD + 1, HEAD + holder_count do
        holders[#holders + 1] = ARGV[at]
    end
    bulk('SADD', ISSUED, holders)
    bulk('HDEL', PENDING, holders)
    bulk('ZREM', PENDING_AT, holders)
end

local refused, requests, released = {}, {}, {}
for at = HEAD + holder_count + 1, #ARGV, 2 do
    refused[#refused + 1] = ARGV[at]
    requests[#requests + 1] = ARGV[at + 1]
end
if #refused > 0 then
    local pending = bulk_read('HMGET', PENDING, refused)
    for at, member in ipairs(refused) do
        local reservation = pending[at]
        if reservation and request_of(reservation) == requests[at] then
            released[#released + 1] = member
        end
    end
    bulk('SREM', ISSUED, released)
    bulk('HDEL', PENDING, released)
    bulk('ZREM', PENDING_AT, released)
end
write_stock(total)
return {2}
