-- Shuts a cold gate and starts a load under a token. The newest token wins.
-- ARGV: token
-- Answers 1; or 0 when the gate is open under this run id, because then there is nothing to rebuild.
local gate = redis.call('HMGET', GATE, 'state', 'run_id')
if open_here(gate[1], gate[2]) then
    return 0
end
-- Reservations of the lost gate go as well: what was acknowledged is in the log, which the loader drains before it reads.
redis.call('UNLINK', ISSUED, STOCK, GATE, PENDING, PENDING_AT)
redis.call('HSET', GATE, 'state', 'loading', 'token', ARGV[1], 'run_id', run_id())
return 1
