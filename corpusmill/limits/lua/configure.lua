-- configure.lua: make the bucket, or tell it the limits that a person has set.
-- KEYS[1] the bucket
-- ARGV set_r, set_t (a minute; -1 none set, 0 no limit), burst (s), first (1: nobody has ever drawn from this scope),
--      day_r, day_t (a day; 0 no limit)
-- Returns {rpm, tpm, learning}: what holds now; 0 is no limit; learning is 1 until the endpoint has told its limits.
--
-- A bucket is filled once, for the scope's first request ever. Redis cannot know that: one that has lost its data
-- looks like a new one. So a bucket that is not there starts empty unless the caller vouches for the scope. Others
-- may have made it a moment before; they had to start it empty.

local now = now_us()
local b = open_bucket(now)
if not b then
  b = {told_r = -1, told_t = -1, level_r = 0, level_t = 0, lowered_r = 0, lowered_t = 0, at = now,
       cool = 0, cool_for = 0, factor = 1, ramp = 0, cut = 0, base = 1, opened = 0, flow_r = 0, flow_t = 0,
       spent_r = 0, spent_t = 0, day_ends = 0}
  turn_day(b, now)
end
b.set_r, b.set_t, b.burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
b.day_r, b.day_t = tonumber(ARGV[5]), tonumber(ARGV[6])
derive(b)
if ARGV[4] == '1' and b.opened == 0 then
  b.level_r, b.level_t, b.opened = math.min(b.cap_r, b.level_r + b.cap_r), math.min(b.cap_t, b.level_t + b.cap_t), 1
end
save_bucket(b)
return {math.floor(b.rpm), math.floor(b.tpm), b.learning and 1 or 0}
