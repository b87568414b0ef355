-- Which reservations members hold. Writes nothing: whoever only tells of a reservation is not handed it.
-- ARGV: member, …
-- Answers {0} when the gate is cold, else {1, request id or empty, …}.
local gate = redis.call('HMGET', GATE, 'state', 'run_id')
if not open_here(gate[1], gate[2]) then
    return {0}
end
local answer = {1}
for at, reservation in ipairs(bulk_read('HMGET', PENDING, ARGV)) do
    answer[at + 1] = reservation and request_of(reservation) or ''
end
return answer
