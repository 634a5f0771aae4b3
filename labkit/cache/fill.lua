-- Store an entry, if none of its tags has been written to since its tokens were read.
-- KEYS: the entry, and the token of each tag.
-- ARGV: what to store, its time to live in milliseconds, and each token as it was read.
for i = 2, #KEYS do
    local token = redis.call('GET', KEYS[i])
    if token ~= ARGV[i + 1] or token:sub(1, 1) == '!' then -- changed, or a writer is under way
        return 0
    end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
