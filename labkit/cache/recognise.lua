-- Replace the token that every entry carries, if the server is not the one that the entries are of.
-- KEYS: the name of that server, and the token.
-- ARGV: this server's run_id, and a new token.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
    redis.call('DEL', KEYS[1]) -- allowed when memory is full, and so is what comes after it
    redis.call('SET', KEYS[2], ARGV[2])
    redis.call('SET', KEYS[1], ARGV[1])
end
