-- look.lua: how a bucket stands. Changes nothing.
-- KEYS[1] the bucket, [2] the zset of processes that draw from it
-- Returns {1, set_r, set_t, told_r, told_t, rpm, tpm, learning, rate_r, rate_t, level_r, level_t, cap_r, cap_t,
--      cool_us, factor, now, processes}, rates and factor in millionths (a second; of the whole rate); {0}: no such bucket.

local now = now_us()
local b = open_bucket(now)
if not b then return {0} end
local cool = math.max(0, b.cool - now, day_spent(b, 0, now))
local function millionths(value) return math.floor(value * 1000000) end
return {1, b.set_r, b.set_t, b.told_r, b.told_t, math.floor(b.rpm), math.floor(b.tpm), b.learning and 1 or 0,
        millionths(b.rate_r), millionths(b.rate_t), math.floor(b.level_r), math.floor(b.level_t),
        math.floor(b.cap_r), math.floor(b.cap_t), cool, millionths(b.factor), now,
        redis.call('ZCOUNT', KEYS[2], now - 10000000, '+inf')}
