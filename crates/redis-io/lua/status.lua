-- What an operator and the reconciler see of a gate. Writes nothing.
-- Answers {state, cursor, members, pending, total, stock, oldest publish in ms, now in ms, partition, paused, ended, opens_ms,
-- closes_ms, rules_offset} with the state 0 absent, 1 loading, 2 open, 3 of another run.
local gate = redis.call('HMGET', GATE, 'state', 'run_id', 'cursor', 'total', 'partition', 'paused', 'ended', 'opens_ms',
    'closes_ms', 'rules_offset')
local state = 0
if gate[1] and gate[2] ~= run_id() then
    state = 3
elseif gate[1] == 'open' then
    state = 2
elseif gate[1] then
    state = 1
end
local oldest = redis.call('ZRANGE', PENDING_AT, 0, 0, 'WITHSCORES')
return {state, gate[3] or '', redis.call('SCARD', ISSUED), redis.call('HLEN', PENDING), gate[4] or '', redis.call('GET', STOCK) or '',
    oldest[2] or '', whole(now_ms()), gate[5] or '', gate[6] or '', gate[7] or '', gate[8] or '', gate[9] or '', gate[10] or ''}
