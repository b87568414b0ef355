-- Adds members who hold an issue in the ledger. An issue is never taken back, so this is right at any cursor.
-- ARGV: member, …
-- Answers {0} when the gate is cold, else {1, how many were not in the set}.
local gate = redis.call('HMGET', GATE, 'state', 'run_id', 'total')
if not open_here(gate[1], gate[2]) then
    return {0}
end
local before = redis.call('SCARD', ISSUED)
bulk('SADD', ISSUED, ARGV)
bulk('HDEL', PENDING, ARGV)
bulk('ZREM', PENDING_AT, ARGV)
write_stock(tonumber(gate[3]))
return {1, redis.call('SCARD', ISSUED) - before}
