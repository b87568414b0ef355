-- Reserves a seat for each of many members.
-- ARGV: member, request id, member, request id, …
-- Answers {0} when the gate is cold, else {1, opens_ms, now in ms, answer, …}: 1 reserved (now), 2 issued, 3 sold out, 4 not open, 5 closed,
-- 6 paused, 7 ended, or the text of the request id that the member holds already.
local gate = redis.call('HMGET', GATE, 'state', 'run_id', 'total', 'opens_ms', 'closes_ms', 'paused', 'ended')
if not open_here(gate[1], gate[2]) then
    return {0}
end
local total, now = tonumber(gate[3]), now_ms()

-- What somebody hears who holds nothing yet; the same order as the fold's.
local refusal = nil
if gate[7] == '1' then
    refusal = 7
elseif gate[4] ~= '' and now < tonumber(gate[4]) then
    refusal = 4
elseif gate[5] ~= '' and now >= tonumber(gate[5]) then
    refusal = 5
elseif gate[6] == '1' then
    refusal = 6
end

local members = {}
for at = 1, #ARGV, 2 do
    members[#members + 1] = ARGV[at]
end
local held = bulk_read('SMISMEMBER', ISSUED, members)
local left = total - redis.call('SCARD', ISSUED)
local suffix = ':' .. whole(now)
local answers, known, known_members = {1, gate[4], whole(now)}, {}, {}
local fresh, added, reservations, times, handed = {}, {}, {}, {}, {}

for at, member in ipairs(members) do
    local request = ARGV[at * 2]
    if held[at] == 1 then
        known[#known + 1] = at
        known_members[#known_members + 1] = member
        answers[at + 3] = 2
    elseif fresh[member] then
        -- He asked twice in this very call: the second asker is handed the first one's reservation.
        answers[at + 3] = fresh[member]
        handed[#handed + 1] = member
        handed[#handed + 1] = fresh[member] .. suffix .. ':handed'
    elseif refusal then
        answers[at + 3] = refusal
    elseif left <= 0 then
        answers[at + 3] = 3
    else
        left = left - 1
        fresh[member] = request
        added[#added + 1] = member
        reservations[#reservations + 1] = member
        reservations[#reservations + 1] = request .. suffix
        times[#times + 1] = now
        times[#times + 1] = member
        answers[at + 3] = 1
    end
end

if #known > 0 then
    local pending = bulk_read('HMGET', PENDING, known_members)
    for index, at in ipairs(known) do
        local reservation = pending[index]
        if reservation then
            answers[at + 3] = request_of(reservation)
            if not is_handed(reservation) then
                handed[#handed + 1] = known_members[index]
                handed[#handed + 1] = reservation .. ':handed'
            end
        end
    end
end

if #added > 0 then
    bulk('SADD', ISSUED, added)
    bulk('HSET', PENDING, reservations)
    bulk('ZADD', PENDING_AT, times)
    redis.call('SET', STOCK, whole(left))
end
bulk('HSET', PENDING, handed)
return answers
