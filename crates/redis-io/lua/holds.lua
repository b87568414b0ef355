-- Which members are in the set. Writes nothing.
-- ARGV: member, …
-- Answers {0} when the gate is cold, else {1, 1 or 0 for each member}.
local gate = redis.call('HMGET', GATE, 'state', 'run_id')
if not open_here(gate[1], gate[2]) then
    return {0}
end
local answer = {1}
for at, held in ipairs(bulk_read('SMISMEMBER', ISSUED, ARGV)) do
    answer[at + 1] = held
end
return answer
