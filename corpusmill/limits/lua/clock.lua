-- clock.lua: the time that buckets live by, in microseconds. First part of every script; see scripts.py.
-- Redis's clock, not the caller's: the workers' clocks need not agree.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
