-- reserve.lua: take one request and its tokens for as many waiters as the bucket allows, or say how long to wait.
-- KEYS[1] the bucket, [2] the shares of this priority (zset job -> virtual time, s), [3] the jobs of this priority
--      that wait (zset job@caller -> until when that holds, us), [4] the caller's calls, [5] the pace of jobs that may
--      use a part of the limit only (hash job -> when its next request would be on the dot, us)
-- ARGV number, kind (of the call: the priority), floor (s of the rate that has to stay in the bucket), caller,
--      then for each job: its id, its weight, its part of the limit at most (1: all), n, and its n waiters' tokens
-- Returns {1, wait_us, why, level_r, level_t, lowered_r, lowered_t, rpm, tpm, learning,
--      granted and held_us (its own part is used up for so long) of each job ...},
--      why: 0 nobody waits, 1 requests, 2 tokens, 3 cool-down, 4 others' turn, 5 the day's limit; or {0}: Redis knows no such bucket.
-- A request that is larger than the bucket passes when the bucket is full, and leaves a debt.

local TURN_S = 0.25         -- how far a job may run ahead of another that waits, in seconds of the whole rate
local TURN_US = 25000       -- when to ask again then
local LONGEST_US = 1000000  -- whoever is told to wait longer asks again after that
local LATE_US = 300000      -- a caller that is later than this has died, or wants nothing any more
local CLAIM_US = 100000     -- who has to wait longer than this has the bucket kept for it, or small ones would overtake
local AHEAD = {high = {}, normal = {'high'}, low = {'high', 'normal'}}

local function jobs_asking()
  local jobs, at = {}, 5
  while at <= #ARGV do
    local n = tonumber(ARGV[at + 3])
    jobs[#jobs + 1] = {id = ARGV[at], weight = tonumber(ARGV[at + 1]), part = tonumber(ARGV[at + 2]), n = n,
                       first = at + 4, granted = 0, held = 0}
    at = at + 4 + n
  end
  return jobs
end

local function back_by(now, wait) return now + math.min(wait, LONGEST_US) + LATE_US end

-- The least virtual time of the jobs that wait elsewhere, or nil.
local function least_elsewhere(jobs, now)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  local mine, least = {}, nil
  for _, job in ipairs(jobs) do mine[job.id] = true end
  for _, member in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    local id = string.match(member, '^(.-)@')
    if not mine[id] then
      local time = tonumber(redis.call('ZSCORE', KEYS[2], id) or 0)
      if not least or time < least then least = time end
    end
  end
  return least
end

-- For whom the bucket is kept, of this priority and of more urgent ones: microseconds until it is served, or 0.
local function claimed_for_another(now)
  local longest = 0
  for _, priority in ipairs({ARGV[2], unpack(AHEAD[ARGV[2]])}) do
    local claim = redis.call('HGET', KEYS[1], 'claim:' .. priority)
    if claim then
      local caller, due, ends = string.match(claim, '^(%S+) (%d+) (%d+)$')
      local live = tonumber(ends) > now and tonumber(ends) < now + LONGEST_US + 2 * LATE_US
      if caller ~= ARGV[4] and live then longest = math.max(longest, tonumber(due) - now, TURN_US) end
    end
  end
  return longest
end

-- One claim a priority: whoever has waited first keeps it until it is served.
local function claim_or_let_go(now, wait, why)
  local field = 'claim:' .. ARGV[2]
  local mine = string.match(redis.call('HGET', KEYS[1], field) or '', '^(%S+)') == ARGV[4]
  if (why == 1 or why == 2) and (mine or wait > CLAIM_US) then
    redis.call('HSET', KEYS[1], field, string.format('%s %.0f %.0f', ARGV[4], now + wait, back_by(now, wait)))
  elseif mine then
    redis.call('HDEL', KEYS[1], field)
  end
end

local function next_job(jobs)
  local best
  for _, job in ipairs(jobs) do
    if job.granted < job.n and job.held == 0 and (not best or job.time < best.time) then best = job end
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

-- Seconds of the whole rate that a request takes.
local function seconds_of(b, tokens)
  local requests = b.rate_r > 0 and 1 / b.rate_r or 0
  return math.max(requests, b.rate_t > 0 and tokens / b.rate_t or 0)
end

-- How far one request moves the pace of a job that may use a part of the limit only.
local function step_of(b, job, tokens) return seconds_of(b, tokens) / (job.part * b.factor) * 1000000 end

-- Microseconds until a job's own part has room for a request; 0 now. Its part has a burst of as many seconds.
local function held_for(b, job, tokens, now)
  if job.part >= 1 then return 0 end
  local ahead = job.pace - now - math.max(0, b.burst * 1000000 - step_of(b, job, tokens))
  return math.max(0, math.ceil(ahead))
end

local function take(b, job, tokens, now)
  if b.rate_r > 0 then b.level_r = b.level_r - 1 end
  if b.rate_t > 0 then b.level_t = b.level_t - tokens end
  b.flow_r, b.flow_t = b.flow_r + 1 / FLOW_S, b.flow_t + tokens / FLOW_S
  b.spent_r, b.spent_t = b.spent_r + 1, b.spent_t + tokens
  if job.part < 1 then job.pace = math.max(now, job.pace) + step_of(b, job, tokens) end
  job.granted, job.time = job.granted + 1, job.time + seconds_of(b, tokens) / job.weight
end

local function grant(b, jobs, elsewhere, floor, now)
  while true do
    local job = next_job(jobs)
    if not job then return 0, 0 end
    if elsewhere and job.time > elsewhere + TURN_S then return TURN_US, 4 end
    local tokens = tonumber(ARGV[job.first + job.granted])
    job.held = held_for(b, job, tokens, now)
    if job.held == 0 then
      local day = day_spent(b, tokens, now)
      if day > 0 then return day, 5 end
      local wait, why = short_of(b, tokens, floor)
      if wait > 0 then return wait, why end
      take(b, job, tokens, now)
    end
  end
end

-- A job that comes (back) starts at the present: it has saved up no credit while it asked for nothing.
local function begin_turns(b, jobs, now)
  local present = tonumber(redis.call('HGET', KEYS[1], 'present:' .. ARGV[2]) or 0)
  for _, job in ipairs(jobs) do
    job.time = math.max(present, tonumber(redis.call('ZSCORE', KEYS[2], job.id) or 0))
    if job.part < 1 then
      -- No request costs more than a minute of the limit: what lies further ahead is a clock that has stepped back.
      local furthest = now + (b.burst + 60 / (job.part * b.factor)) * 1000000
      job.pace = math.min(tonumber(redis.call('HGET', KEYS[5], job.id) or 0), furthest)
    end
  end
  return present
end

local function end_turns(jobs, elsewhere, present, now, wait)
  local least = elsewhere
  for _, job in ipairs(jobs) do
    redis.call('ZADD', KEYS[2], job.time, job.id)
    local waits = job.granted < job.n and job.held == 0
    local member = job.id .. '@' .. ARGV[4]
    if waits then redis.call('ZADD', KEYS[3], back_by(now, wait), member) else redis.call('ZREM', KEYS[3], member) end
    -- A job that is held back by its own part holds nobody's present back.
    if job.held == 0 and (not least or job.time < least) then least = job.time end
    if job.part < 1 then
      redis.call('HSET', KEYS[5], job.id, string.format('%.0f', job.pace))
      redis.call('PEXPIRE', KEYS[5], IDLE_MS)
    end
  end
  present = math.max(present, least or 0)
  redis.call('HSET', KEYS[1], 'present:' .. ARGV[2], present)
  -- Whoever lies before the present would start at the present anyway.
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.17g', present))
  redis.call('PEXPIRE', KEYS[2], IDLE_MS)
  redis.call('PEXPIRE', KEYS[3], LONGEST_US / 100)
end

local before = given_before(KEYS[4], ARGV[2], ARGV[1])
if before then return before end
local now = now_us()
local b = open_bucket(now)
if not b then return {0} end
local jobs, wait, why = jobs_asking(), 0, 0
local elsewhere = least_elsewhere(jobs, now)
local present = begin_turns(b, jobs, now)
local claimed = claimed_for_another(now)
if b.cool > now then
  wait, why = b.cool - now, 3
elseif claimed > 0 then
  wait, why = claimed, 4
else
  wait, why = grant(b, jobs, elsewhere, tonumber(ARGV[3]), now)
end
save_bucket(b)
claim_or_let_go(now, wait, why)
end_turns(jobs, elsewhere, present, now, wait)
local reply = {1, wait, why, math.floor(b.level_r), math.floor(b.level_t), math.floor(b.lowered_r),
               math.floor(b.lowered_t), math.floor(b.rpm), math.floor(b.tpm), b.learning and 1 or 0}
for _, job in ipairs(jobs) do
  reply[#reply + 1] = job.granted
  reply[#reply + 1] = job.held
end
return remember(KEYS[4], ARGV[2], ARGV[1], reply)
