-- reserve.lua: take one request and its tokens for as many waiters as the bucket allows, or say how long to wait.
-- KEYS[1] the bucket, [2] the shares of this priority (zset job -> virtual time, s), [3] the jobs of this priority
--      that wait (zset job -> when it asked last, us), [4] the caller's calls
-- ARGV number, kind (of the call), floor (s of the rate that has to stay in the bucket), then for each job:
--      its id, its weight, n, and the tokens of its n waiters in order
-- Returns {1, wait_us, why, level_r, level_t, lowered_r, lowered_t, rpm, tpm, learning, granted to each job ...},
--      why: 0 nobody waits, 1 requests, 2 tokens, 3 cool-down, 4 other jobs' turn; or {0}: Redis knows no such bucket.
-- A request that is larger than the bucket passes when the bucket is full, and leaves a debt.

local WAITING_US = 2000000  -- a job that has not asked for so long waits no more
local TURN_S = 0.25         -- how far a job may run ahead of another that waits, in seconds of the whole rate
local TURN_US = 25000       -- when to ask again then

local function jobs_asking()
  local jobs, at = {}, 4
  while at <= #ARGV do
    local n = tonumber(ARGV[at + 2])
    jobs[#jobs + 1] = {id = ARGV[at], weight = tonumber(ARGV[at + 1]), n = n, first = at + 3, granted = 0}
    at = at + 3 + n
  end
  return jobs
end

-- The least virtual time of the jobs that wait elsewhere, or nil.
local function least_elsewhere(jobs, now)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - WAITING_US)
  local mine, least = {}, nil
  for _, job in ipairs(jobs) do mine[job.id] = true end
  for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    if not mine[id] then
      local time = tonumber(redis.call('ZSCORE', KEYS[2], id) or 0)
      if not least or time < least then least = time end
    end
  end
  return least
end

local function next_job(jobs)
  local best
  for _, job in ipairs(jobs) do
    if job.granted < job.n and (not best or job.time < best.time) then best = job end
  end
  return best
end

-- Microseconds until `level` is `need`, rounded up so that one wait is enough.
local function wait_for(need, level, rate) return math.ceil((need - level) / rate * 1000000) + 500 end

-- 0 when the bucket holds one request of `tokens`, else the wait and what is short.
local function short_of(b, tokens, floor)
  local wait, why = 0, 0
  if b.rate_r > 0 then
    local need = math.min(1 + floor * b.rate_r, b.cap_r)
    if b.level_r < need then wait, why = wait_for(need, b.level_r, b.rate_r * b.factor), 1 end
  end
  if b.rate_t > 0 then
    local need = math.min(tokens + floor * b.rate_t, b.cap_t)
    if b.level_t < need then
      local tokens_wait = wait_for(need, b.level_t, b.rate_t * b.factor)
      if tokens_wait > wait then wait, why = tokens_wait, 2 end
    end
  end
  return wait, why
end

local function take(b, job, tokens)
  local seconds = 0
  if b.rate_r > 0 then b.level_r = b.level_r - 1; seconds = 1 / b.rate_r end
  if b.rate_t > 0 then b.level_t = b.level_t - tokens; seconds = math.max(seconds, tokens / b.rate_t) end
  job.granted, job.time = job.granted + 1, job.time + seconds / job.weight
end

local function grant(b, jobs, elsewhere, floor)
  while true do
    local job = next_job(jobs)
    if not job then return 0, 0 end
    if elsewhere and job.time > elsewhere + TURN_S then return TURN_US, 4 end
    local tokens = tonumber(ARGV[job.first + job.granted])
    local wait, why = short_of(b, tokens, floor)
    if wait > 0 then return wait, why end
    take(b, job, tokens)
  end
end

-- A job that comes (back) starts at the present: it has saved up no credit while it asked for nothing.
local function begin_turns(jobs)
  local present = tonumber(redis.call('HGET', KEYS[1], 'present:' .. ARGV[2]) or 0)
  for _, job in ipairs(jobs) do job.time = math.max(present, tonumber(redis.call('ZSCORE', KEYS[2], job.id) or 0)) end
  return present
end

local function end_turns(b, jobs, elsewhere, present, now)
  local least = elsewhere
  for _, job in ipairs(jobs) do
    redis.call('ZADD', KEYS[2], job.time, job.id)
    if job.granted < job.n then redis.call('ZADD', KEYS[3], now, job.id) else redis.call('ZREM', KEYS[3], job.id) end
    if not least or job.time < least then least = job.time end
  end
  present = math.max(present, least or 0)
  redis.call('HSET', KEYS[1], 'present:' .. ARGV[2], present)
  -- Whoever lies before the present would start at the present anyway.
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.17g', present))
  redis.call('PEXPIRE', KEYS[2], IDLE_MS)
  redis.call('PEXPIRE', KEYS[3], 10 * WAITING_US / 1000)
end

local before = given_before(KEYS[4], ARGV[2], ARGV[1])
if before then return before end
local now = now_us()
local b = open_bucket(now)
if not b then return {0} end
local jobs, wait, why = jobs_asking(), 0, 0
local elsewhere = least_elsewhere(jobs, now)
local present = begin_turns(jobs)
if b.cool > now then
  wait, why = b.cool - now, 3
else
  wait, why = grant(b, jobs, elsewhere, tonumber(ARGV[3]))
end
save_bucket(b)
end_turns(b, jobs, elsewhere, present, now)
local reply = {1, wait, why, math.floor(b.level_r), math.floor(b.level_t), math.floor(b.lowered_r),
               math.floor(b.lowered_t), math.floor(b.rpm), math.floor(b.tpm), b.learning and 1 or 0}
for _, job in ipairs(jobs) do reply[#reply + 1] = job.granted end
return remember(KEYS[4], ARGV[2], ARGV[1], reply)
