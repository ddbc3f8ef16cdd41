-- presence.lua: say that a process draws from this bucket, and count those that do.
-- KEYS[1] zset process -> when it said so last, us    ARGV process, for how long that holds (ms)
-- Returns the number of live processes, this one included.

local now = now_us()
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2] * 1000)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
