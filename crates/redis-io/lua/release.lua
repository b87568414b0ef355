-- Takes reservations back.
-- ARGV: member, the reservation's whole text, member, the reservation's whole text, …
-- Answers one number for each pair: 1 released, 0 left alone, because the reservation is another one's, was settled, or was handed to
-- somebody who may be publishing it now. The text has the moment in it: the same client may have asked again under the same id since
-- this gate was lost and loaded anew, and that is another reservation.
local gate = redis.call('HMGET', GATE, 'state', 'run_id', 'total')
local answers, members, released = {}, {}, {}
for at = 1, #ARGV, 2 do
    members[#members + 1] = ARGV[at]
    answers[#answers + 1] = 0
end
if not open_here(gate[1], gate[2]) then
    return answers
end
for at, reservation in ipairs(bulk_read('HMGET', PENDING, members)) do
    if reservation == ARGV[at * 2] then
        answers[at] = 1
        released[#released + 1] = members[at]
    end
end
if #released > 0 then
    bulk('SREM', ISSUED, released)
    bulk('HDEL', PENDING, released)
    bulk('ZREM', PENDING_AT, released)
    write_stock(tonumber(gate[3]))
end
return answers
