-- Store an entry, if none of its tags has been written to since its tokens were read.
-- KEYS: the entry, the token of each tag, and the lease, if whoever fills holds one.
-- ARGV: what to store, its time to live in milliseconds, and each token (and lease) as it was read.
local unchanged = 1
for i = 2, #KEYS do
    local token = redis.pcall('GET', KEYS[i]) -- somebody may have put a list there
    if token ~= ARGV[i + 1] or token:sub(1, 1) == '!' then -- changed, or a writer is under way
        unchanged = 0
    elseif i == #KEYS and token:sub(1, 6) == 'lease:' then -- it has served
        redis.call('DEL', KEYS[i])
    end
end
if unchanged == 1 then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return unchanged
