-- Hands out reservations that nobody has published for a while, the oldest first.
-- ARGV: age in ms, limit
-- Answers {0} when cold, else {1, member, request id, reserved at in ms, …}.
local gate = redis.call('HMGET', GATE, 'state', 'run_id')
if not open_here(gate[1], gate[2]) then
    return {0}
end
local now = now_ms()
local members = redis.call('ZRANGE', PENDING_AT, '-inf', whole(now - tonumber(ARGV[1])), 'BYSCORE', 'LIMIT', 0, ARGV[2])
local answer, handed, times = {1}, {}, {}
if #members == 0 then
    return answer
end
local pending = bulk_read('HMGET', PENDING, members)
for at, member in ipairs(members) do
    local reservation = pending[at]
    if reservation then
        answer[#answer + 1] = member
        answer[#answer + 1] = request_of(reservation)
        answer[#answer + 1] = string.match(reservation, ':(%d+)', 37)
        -- From here on it may be in the log, so its first maker must not release it; and the next round leaves it alone
        -- for as long as this one did.
        if not is_handed(reservation) then
            handed[#handed + 1] = member
            handed[#handed + 1] = reservation .. ':handed'
        end
        times[#times + 1] = now
        times[#times + 1] = member
    else
        redis.call('ZREM', PENDING_AT, member)
    end
end
bulk('HSET', PENDING, handed)
bulk('ZADD', PENDING_AT, times)
return answer
