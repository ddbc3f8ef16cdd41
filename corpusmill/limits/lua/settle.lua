-- settle.lua: put back what was not used, take what was used beyond, and believe what the endpoint says.
-- KEYS[1] the bucket, [2] the caller's calls
-- ARGV number, kind (of the call), back_r, back_t (to put back; negative: to take),
--      lowered_r, lowered_t (how much the endpoint's word asks to have been taken off in all; '' nothing),
--      told_r, told_t (the limits of its headers, a minute; 0: it tells none; -1: nothing new)
-- Returns {1, rpm, tpm, learning}, or {0}: Redis knows no such bucket.

-- `lowered` counts from the bucket's beginning, so many replies that tell of one shortage lower the level once.
local function lower(b, level, lowered, asked)
  if asked == '' then return end
  local more = tonumber(asked) - b[lowered]
  if more > 0 then b[level], b[lowered] = b[level] - more, b[lowered] + more end
end

-- A reply without headers proves that there is no limit only where no other reply has told one.
local function believed(known, told) return (told > 0 or known < 0) and told or known end

local before = given_before(KEYS[2], ARGV[2], ARGV[1])
if before then return before end
local b = open_bucket(now_us())
if not b then return {0} end
b.level_r, b.level_t = b.level_r + tonumber(ARGV[3]), b.level_t + tonumber(ARGV[4])
b.spent_r, b.spent_t = math.max(0, b.spent_r - tonumber(ARGV[3])), math.max(0, b.spent_t - tonumber(ARGV[4]))
lower(b, 'level_r', 'lowered_r', ARGV[5])
lower(b, 'level_t', 'lowered_t', ARGV[6])
local told_r, told_t = tonumber(ARGV[7]), tonumber(ARGV[8])
b.told_r, b.told_t = believed(b.told_r, told_r), believed(b.told_t, told_t)
derive(b)
save_bucket(b)
return remember(KEYS[2], ARGV[2], ARGV[1], {1, math.floor(b.rpm), math.floor(b.tpm), b.learning and 1 or 0})
