-- cool.lua: slow the whole fleet down after the endpoint has refused a request. Carried out twice it acts once.
-- KEYS[1] the bucket
-- ARGV cool (us: nothing is granted for so long), keep (share of the rate to keep, 1 for all), ramp (what the share
--      grows by, a second; negative: relative to the share that is left), drain (1: the bucket is empty when it goes on, so
--      that nobody rushes in)
-- Returns {1, cool_us}, or {0}: Redis knows no such bucket.

local CUT_US = 1000000  -- however many refusals come in a second, they are one

local now = now_us()
local b = open_bucket(now)
if not b then return {0} end
local cool, keep = tonumber(ARGV[1]), tonumber(ARGV[2])
if now + cool > b.cool then b.cool, b.cool_for = now + cool, cool end
if keep < 1 and (now < b.cut or now - b.cut >= CUT_US) then
  -- While an earlier refusal is not made up for, the slower of the two ways back holds.
  local ramp, left = tonumber(ARGV[3]), math.max(0.05, b.factor * keep)
  if ramp < 0 then ramp = -ramp * left end
  b.ramp = b.factor < 1 and math.min(b.ramp, ramp) or ramp
  b.factor, b.cut = left, now
end
if ARGV[4] == '1' then b.level_r, b.level_t = math.min(b.level_r, 0), math.min(b.level_t, 0) end
save_bucket(b)
return {1, math.max(0, b.cool - now)}
