-- cool.lua: slow the whole fleet down after the endpoint has refused a request. Carried out twice it acts once.
-- KEYS[1] the bucket
-- ARGV cool (us: nothing is granted for so long), keep (share of the rate to keep, 1 for all), ramp (what the share
--      grows by, a second; negative: relative to the share that is left), left (s: of the rate,
--      the bucket holds so much at most when it goes on, so that nobody rushes in), day (1: a limit of a day is used up, and the next one begins when the cool-down ends),
--      of_traffic (1: keep that share of what was sent lately, which may be far less than the limit)
-- Returns {1, cool_us}, or {0}: Redis knows no such bucket.

local CUT_US = 1000000  -- however many refusals come in a second, they are one
local LEAST = 0.05      -- of what there was before the first of them

-- The share of the rate that is in use.
local function in_use(b)
  local requests = b.rate_r > 0 and b.flow_r / b.rate_r or 0
  local used = math.max(requests, b.rate_t > 0 and b.flow_t / b.rate_t or 0)
  return used > 0 and math.min(1, used) or 1
end

local now = now_us()
local b = open_bucket(now)
if not b then return {0} end
local cool, keep = tonumber(ARGV[1]), tonumber(ARGV[2])
if now + cool > b.cool then b.cool, b.cool_for = now + cool, cool end
if keep < 1 and (now < b.cut or now - b.cut >= CUT_US) then
  -- While an earlier refusal is not made up for, the slower of the two ways back holds.
  -- Under an earlier refusal the share bounds the traffic already, and a cool-down has made that fade.
  if b.factor >= 1 then b.base = ARGV[6] == '1' and in_use(b) or 1 end
  local ramp, left = tonumber(ARGV[3]), math.max(LEAST * b.base, math.min(b.factor, b.base) * keep)
  if ramp < 0 then ramp = -ramp * left else ramp = ramp * b.base end
  b.ramp = b.factor < 1 and math.min(b.ramp, ramp) or ramp
  b.factor, b.cut = left, now
end
if ARGV[5] == '1' then b.day_ends = b.cool end
local left = tonumber(ARGV[4])
b.level_r, b.level_t = math.min(b.level_r, left * b.rate_r), math.min(b.level_t, left * b.rate_t)
save_bucket(b)
return {1, math.max(0, b.cool - now)}
