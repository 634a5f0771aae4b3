-- Enter a writer into the markers of its tags before its commit, or take it out after its commit.
-- A marker names each writer under way, and until when it counts: !name:deadline!name:deadline
-- KEYS: the token of each tag.
-- ARGV: the writer's name; its deadline (milliseconds from now; 0: it has ended); and for each tag
-- a new token.
local time = redis.call('TIME')
local now = 1000 * time[1] + math.floor(time[2] / 1000)
for i = 1, #KEYS do
    local marker, last = '', 0
    local function enter(name, deadline)
        marker = marker .. '!' .. name .. ':' .. deadline
        last = math.max(last, deadline)
    end
    for name, deadline in string.gmatch(redis.call('GET', KEYS[i]) or '', '!(%w+):(%d+)') do
        if name ~= ARGV[1] and tonumber(deadline) > now then
            enter(name, tonumber(deadline))
        end
    end
    if tonumber(ARGV[2]) > 0 then
        enter(ARGV[1], now + ARGV[2])
    end
    if marker == '' then -- nobody is left
        redis.call('SET', KEYS[i], ARGV[i + 2])
    else
        redis.call('SET', KEYS[i], marker, 'PXAT', last)
    end
end
