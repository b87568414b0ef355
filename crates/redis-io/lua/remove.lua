-- Takes members out who hold no issue in a snapshot of the ledger.
-- ARGV: the snapshot's decided position, member …
-- Answers {0} when the gate is cold; {1, cursor} when the settler is past the snapshot, which then says nothing about the set; else
-- {2, 1 for each member who was taken out, 0 for each who was not there or whose reservation waits for the log}.
local gate = redis.call('HMGET', GATE, 'state', 'run_id', 'cursor', 'total')
if not open_here(gate[1], gate[2]) then
    return {0}
end
if tonumber(gate[3]) > tonumber(ARGV[1]) then
    return {1, gate[3]}
end
local members, answer = {}, {2}
for at = 2, #ARGV do
    members[#members + 1] = ARGV[at]
end
for at, reservation in ipairs(bulk_read('HMGET', PENDING, members)) do
    answer[at + 1] = reservation and 0 or redis.call('SREM', ISSUED, members[at])
end
write_stock(tonumber(gate[4]))
return answer
