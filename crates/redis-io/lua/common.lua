#!lua
-- Shared head of every gate script. The shebang makes Redis 7 refuse the call before it has written anything when
-- memory is full, the server is a replica, or a key outside KEYS would be touched.
local ISSUED, STOCK, GATE, PENDING, PENDING_AT = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

-- Lua's stack holds about 8,000 values, so long argument lists go in slices. The number is even, so that pairs stay together.
local SLICE = 2000

-- A server gets a new run id at each start. A gate that was opened under another one may have come back from an old file.
local function run_id()
    return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

local function open_here(state, opened_under)
    return state == 'open' and opened_under == run_id()
end

local function now_ms()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Redis commands want whole numbers as text: Lua would print large ones as 1.8e+12.
local function whole(number)
    return string.format('%.0f', number)
end

local function bulk(command, key, args)
    for first = 1, #args, SLICE do
        redis.call(command, key, unpack(args, first, math.min(first + SLICE - 1, #args)))
    end
end

-- The same for commands that answer one value for each argument.
local function bulk_read(command, key, args)
    if #args <= SLICE and #args > 0 then
        return redis.call(command, key, unpack(args))
    end
    local all = {}
    for first = 1, #args, SLICE do
        for _, value in ipairs(redis.call(command, key, unpack(args, first, math.min(first + SLICE - 1, #args)))) do
            all[#all + 1] = value
        end
    end
    return all
end

-- A pending reservation is `<request id>:<reserved at, ms>`, with `:handed` behind it once anybody but its maker was given it.
local function request_of(pending)
    return string.sub(pending, 1, 36)
end

local function is_handed(pending)
    return string.sub(pending, -7) == ':handed'
end

-- The stock is never counted down: it follows from the set, and the readable copy is written beside it.
local function write_stock(total)
    local left = total - redis.call('SCARD', ISSUED)
    if left < 0 then left = 0 end
    redis.call('SET', STOCK, whole(left))
end
