-- Takes reservations back whose publish was refused before it could reach a broker.
-- ARGV: member, request id, member, request id, …
-- Answers one number for each pair: 1 released, 0 left alone, because the reservation is another one's, was settled,
-- or was handed to somebody who may be publishing it now.
local gate = redis.call('HMGET', GATE, 'state', 'run_id', 'total')
local answers, members, released = {}, {}, {}
for at = 1, #ARGV, 2 do
    members[#members + 1] = ARGV[at]
    answers[#answers + 1] = 0
end
if not open_here(gate[1], gate[2]) then
    return answers
end
local pending = bulk_read('HMGET', PENDING, members)
for at, member in ipairs(members) do
    local reservation = pending[at]
    if reservation and request_of(reservation) == ARGV[at * 2] and not is_handed(reservation) then
        answers[at] = 1
        released[#released + 1] = member
    end
end
if #released > 0 then
    bulk('SREM', ISSUED, released)
    bulk('HDEL', PENDING, released)
    bulk('ZREM', PENDING_AT, released)
    write_stock(tonumber(gate[3]))
end
return answers
