-- Read an entry and its tokens; make the tokens that are missing, and take the lease if it is free.
-- KEYS: the entry, its lease, the token of each tag; perhaps the key of a note.
-- ARGV: how many tags there are, a name for the lease's holder, its length in milliseconds (0: it
-- is not wanted), a new token for each tag; perhaps the note, which is kept for a day.
-- Returns the entry, the lease's holder, and each token. A lease names the tokens that it was taken
-- under: once they have changed, its holder's fill will be refused, and nobody waits for it.
local time = redis.call('TIME')
local now = 1000 * time[1] + math.floor(time[2] / 1000)

local function read(key)
    local value = redis.pcall('GET', key) -- somebody may have put a list there
    return type(value) == 'string' and value or ''
end

local function is_over(marker) -- each writer that it names has crashed
    for deadline in string.gmatch(marker, '!%w+:(%d+)') do
        if tonumber(deadline) > now and tonumber(deadline) <= now + 3600000 then -- as in mark.lua
            return false
        end
    end
    return true
end

local entry, stamp = read(KEYS[1]), ''
local found = {entry, ''}
local busy = false
local last = 2 + ARGV[1]
for i = 3, last do
    local token = read(KEYS[i])
    local marked = token:sub(1, 1) == '!'
    if token == '' or (marked and is_over(token)) or (not marked and #token > 1024) then -- foreign
        token, marked = ARGV[i + 1], false
        redis.call('SET', KEYS[i], token)
    end
    busy = busy or marked
    found[i] = token
    stamp = stamp .. token .. (i < last and ' ' or '')
end
stamp = stamp .. '\n'
local counts = entry ~= '' and entry:sub(1, #stamp) == stamp
local holder = read(KEYS[2])
local function is_free() -- nobody has it, a write has overtaken its holder, or it would never end
    local left = holder:sub(1, 6) == 'lease:' and redis.call('PTTL', KEYS[2]) or -1
    return left < 0 or left > tonumber(ARGV[3]) or holder:sub(-#stamp) ~= stamp
end
if tonumber(ARGV[3]) > 0 and not busy and not counts and is_free() then
    holder = ARGV[2] .. ' ' .. stamp
    redis.call('SET', KEYS[2], holder, 'PX', ARGV[3])
end
if #KEYS > last then
    redis.call('SET', KEYS[#KEYS], ARGV[#ARGV], 'EX', 86400)
end
found[2] = holder
return found
