-- One step over the set, without the members whose reservation waits for the log. Writes nothing.
-- ARGV: where it goes on, how many to look at, roughly
-- Answers {0} when the gate is cold, else {1, where the next step goes on (0 at the end), member …}. A member may come twice.
local gate = redis.call('HMGET', GATE, 'state', 'run_id')
if not open_here(gate[1], gate[2]) then
    return {0}
end
local step = redis.call('SSCAN', ISSUED, ARGV[1], 'COUNT', ARGV[2])
local answer = {1, step[1]}
for at, reservation in ipairs(bulk_read('HMGET', PENDING, step[2])) do
    if not reservation then
        answer[#answer + 1] = step[2][at]
    end
end
return answer
