-- Read an entry and its tokens; make the tokens that are missing, and take the lease if it is free.
-- KEYS: the entry, its lease, and the token of each tag.
-- ARGV: a name for the lease's holder, its length in milliseconds (0: it is not wanted), and a new
-- token for each tag.
-- Returns the entry, the lease's holder, and each token.
local time = redis.call('TIME')
local now = 1000 * time[1] + math.floor(time[2] / 1000)

local function read(key)
    local value = redis.pcall('GET', key) -- somebody may have put a list there
    return type(value) == 'string' and value or ''
end

local function is_over(marker) -- each writer that it names has crashed
    for deadline in string.gmatch(marker, '!%w+:(%d+)') do
        if tonumber(deadline) > now then
            return false
        end
    end
    return true
end

local entry, stamp = read(KEYS[1]), ''
local found = {entry, ''}
local busy = false
for i = 3, #KEYS do
    local token = read(KEYS[i])
    local marked = token:sub(1, 1) == '!'
    if token == '' or (marked and is_over(token)) then
        token, marked = ARGV[i], false
        redis.call('SET', KEYS[i], token)
    end
    busy = busy or marked
    found[i] = token
    stamp = stamp .. token .. (i < #KEYS and ' ' or '')
end
stamp = stamp .. '\n'
local counts = entry ~= '' and entry:sub(1, #stamp) == stamp
local holder = read(KEYS[2])
if tonumber(ARGV[2]) > 0 and not busy and not counts and holder:sub(1, 6) ~= 'lease:' then
    holder = ARGV[1]
    redis.call('SET', KEYS[2], holder, 'PX', ARGV[2])
end
found[2] = holder
return found
