-- bucket.lua: what every script knows of a bucket. Second part of every script that touches one.
--
-- KEYS[1], a hash: requests and tokens side by side, `_r` and `_t`
--   set_r set_t      the limit a person set, a minute; -1 none set, 0 "no limit"
--   told_r told_t    the limit the endpoint's headers tell, a minute; -1 not known yet, 0 it tells none
--   burst            how much of the rate may be spent at once, in seconds
--   level_r level_t  what may be spent now; below zero after a request larger than the bucket
--   lowered_r _t     all that was ever taken off a level because the endpoint said that less is left
--   at               when the levels were true, microseconds
--   cool cool_for    nothing is granted until `cool` (microseconds), which was set `cool_for` ahead
--   factor ramp cut  share of the rate in use after overload, its growth a second, and when it was cut last
--   base             what the factor was cut from at first: 1, or the share of the rate that was in use
--   opened           1 once it was filled for the scope's very first request; see configure.lua
--   flow_r flow_t    what was granted a second lately, about: it fades within FLOW_S
--   day_r day_t      the limit of a day that a person set; 0 none
--   spent_r spent_t  what was granted since the day began, less what came back
--   day_ends         when the next day begins, microseconds: at midnight UTC, or when the endpoint said; 0 not known yet

local IDLE_MS = 3600000         -- shares of jobs that ask for nothing are forgotten after an hour
local BUCKET_MS = 30 * 86400000 -- a bucket is kept for long: one that is gone starts empty
local PROBING_RPM = 60   -- until the endpoint's first reply tells its limits
local GUARD_S = 0.05     -- how much closer than sent two requests may arrive
local FLOW_S = 1
local DAY_US = 86400000000

local function limit_of(set, told, unknown)
  if set == 0 then return 0 end
  if set > 0 then return told > 0 and math.min(set, told) or set end
  return told >= 0 and told or unknown
end

-- Where the endpoint's bucket holds hardly more than one request, requests sent on the dot arrive too early half
-- of the time: keep GUARD_S between them and the dot.
local function paced(rate, burst)
  if rate == 0 then return 0 end
  local slack = math.max(0, rate * burst - 1) / rate
  return 1 / (1 / rate + math.max(0, GUARD_S - slack))
end

local function derive(b)
  b.learning = (b.set_r < 0 and b.told_r < 0) or (b.set_t < 0 and b.told_t < 0)
  local rpm = limit_of(b.set_r, b.told_r, PROBING_RPM)
  if b.learning then rpm = rpm > 0 and math.min(rpm, PROBING_RPM) or PROBING_RPM end
  b.tpm = limit_of(b.set_t, b.told_t, 0)
  b.rpm = rpm
  b.rate_r, b.rate_t = paced(rpm / 60, b.burst), b.tpm / 60
  b.cap_r, b.cap_t = math.max(1, rpm / 60 * b.burst), math.max(1, b.rate_t * b.burst)
  b.level_r, b.level_t = math.min(b.level_r, b.cap_r), math.min(b.level_t, b.cap_t)
end

local FIELDS = {'set_r', 'set_t', 'told_r', 'told_t', 'burst', 'level_r', 'level_t', 'lowered_r', 'lowered_t',
                'at', 'cool', 'cool_for', 'factor', 'ramp', 'cut', 'base', 'opened',
                'flow_r', 'flow_t', 'day_r', 'day_t', 'spent_r', 'spent_t', 'day_ends'}

-- Days follow each other from midnight UTC (the epoch began at one), or from the end that the endpoint told.
local function turn_day(b, now)
  if now < b.day_ends then return end
  b.day_ends = b.day_ends + (math.floor((now - b.day_ends) / DAY_US) + 1) * DAY_US
  b.spent_r, b.spent_t = 0, 0
end

local function refill(b, now)
  if now < b.at then b.at = now end  -- the clock stepped back: that time refills nothing
  if b.cool - now > b.cool_for then b.cool = now + b.cool_for end
  local fading = math.exp((b.at - now) / 1000000 / FLOW_S)
  b.flow_r, b.flow_t = b.flow_r * fading, b.flow_t * fading
  local seconds = math.max(0, now - math.max(b.at, b.cool)) / 1000000
  b.level_r = math.min(b.cap_r, b.level_r + seconds * b.rate_r * b.factor)
  b.level_t = math.min(b.cap_t, b.level_t + seconds * b.rate_t * b.factor)
  b.factor = math.min(1, b.factor + seconds * b.ramp)
  b.at = now
end

-- Microseconds until the day is over, when it has no room for one more request of `tokens`; else 0.
local function day_spent(b, tokens, now)
  local spent = b.day_r > 0 and b.spent_r + 1 > b.day_r
  -- One that is larger than a whole day is the endpoint's to refuse.
  spent = spent or (b.day_t > 0 and b.spent_t > 0 and b.spent_t + tokens > b.day_t)
  return spent and b.day_ends - now or 0
end

-- The bucket as it is now, or nil when Redis knows none: then the caller has to configure it.
local function open_bucket(now)
  local values = redis.call('HMGET', KEYS[1], unpack(FIELDS))
  if not values[1] then return nil end
  local b = {}
  for i, name in ipairs(FIELDS) do b[name] = tonumber(values[i] or 0) end
  derive(b)
  refill(b, now)
  turn_day(b, now)
  return b
end

local function save_bucket(b)
  local pairs_ = {}
  for _, name in ipairs(FIELDS) do
    pairs_[#pairs_ + 1] = name
    pairs_[#pairs_ + 1] = b[name]
  end
  redis.call('HSET', KEYS[1], unpack(pairs_))
  redis.call('PEXPIRE', KEYS[1], BUCKET_MS + math.max(0, math.ceil((b.cool - b.at) / 1000)))
end
