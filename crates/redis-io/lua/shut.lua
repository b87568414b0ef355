-- Shuts an open gate whose cursor is an offset of a log that is gone. What it holds stays until a load begins.
-- ARGV: the cursor that it was seen with
-- Answers 1; or 0 when it is not open, or stands elsewhere by now, because then it is another gate than the one that was judged.
local gate = redis.call('HMGET', GATE, 'state', 'run_id', 'cursor')
if not open_here(gate[1], gate[2]) or gate[3] ~= ARGV[1] then
    return 0
end
redis.call('HSET', GATE, 'state', 'shut')
return 1
