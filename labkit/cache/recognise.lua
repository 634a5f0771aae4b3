-- Replace the token that every entry carries, if the server is not the one that the entries are of.
-- KEYS: the name of that server, and the token.
-- ARGV: this server's run_id, and a new token.
local before = redis.pcall('GET', KEYS[1]) -- somebody may have put a list there
redis.call('DEL', KEYS[1]) -- allowed when memory is full, and so is what comes after it
if before ~= ARGV[1] then
    redis.call('SET', KEYS[2], ARGV[2])
end
redis.call('SET', KEYS[1], ARGV[1]) -- each time: a replica refuses it, and may lag behind
