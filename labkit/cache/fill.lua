-- Store an entry, if none of its tags has been invalidated since its tokens were read.
-- KEYS: the entry, and the token of each tag.
-- ARGV: what to store, its time to live in milliseconds, and each token as it was read.
for i = 2, #KEYS do
    if redis.call('GET', KEYS[i]) ~= ARGV[i + 1] then
        return 0
    end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
