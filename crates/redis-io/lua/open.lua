-- Opens a loaded gate.
-- ARGV: token, cursor, total, opens_ms, closes_ms, paused, ended, partition, rules_offset
-- Answers the number of members; or -1 when the token is gone.
local gate = redis.call('HMGET', GATE, 'state', 'token', 'run_id')
if gate[1] ~= 'loading' or gate[2] ~= ARGV[1] or gate[3] ~= run_id() then
    return -1
end
redis.call('HSET', GATE, 'state', 'open', 'cursor', ARGV[2], 'total', ARGV[3], 'opens_ms', ARGV[4], 'closes_ms', ARGV[5],
    'paused', ARGV[6], 'ended', ARGV[7], 'partition', ARGV[8], 'rules_offset', ARGV[9])
redis.call('HDEL', GATE, 'token')
write_stock(tonumber(ARGV[3]))
return redis.call('SCARD', ISSUED)
