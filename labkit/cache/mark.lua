-- Enter a writer into the markers of its tags before its commit, or take it out after its commit.
-- A marker names each writer under way, and until when it counts: !name:deadline!name:deadline
-- KEYS: the token of each tag.
-- ARGV: the writer's name; its deadline (milliseconds from now; 0: it has ended); and for each tag
-- a new token.
local time = redis.call('TIME')
local now = 1000 * time[1] + math.floor(time[2] / 1000)
for i = 1, #KEYS do
    local marker = ''
    local token = redis.pcall('GET', KEYS[i]) -- somebody may have put a list there
    for name, deadline in string.gmatch(type(token) == 'string' and token or '', '!(%w+):(%d+)') do
        local left = tonumber(deadline) - now -- over an hour: no writer has entered that
        if name ~= ARGV[1] and left > 0 and left <= 3600000 then
            marker = marker .. '!' .. name .. ':' .. deadline
        end
    end
    if tonumber(ARGV[2]) > 0 then
        marker = marker .. '!' .. ARGV[1] .. ':' .. now + ARGV[2]
    end
    redis.call('DEL', KEYS[i]) -- allowed when memory is full, and so is what comes after it
    redis.call('SET', KEYS[i], marker == '' and ARGV[i + 2] or marker)
end
return #KEYS
