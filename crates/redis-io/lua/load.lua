-- Adds members who hold an issue to a gate that is being loaded.
-- ARGV: token, member …
-- Answers 1; or 0 when the token is gone. A server that restarted in mid-load may have kept the token and lost a chunk, so
-- the run id is held against it as well.
local gate = redis.call('HMGET', GATE, 'state', 'token', 'run_id')
if gate[1] ~= 'loading' or gate[2] ~= ARGV[1] or gate[3] ~= run_id() then
    return 0
end
local members = {}
for at = 2, #ARGV do
    members[#members + 1] = ARGV[at]
end
bulk('SADD', ISSUED, members)
return 1
