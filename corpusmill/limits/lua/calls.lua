-- calls.lua: a script that is sent twice acts once. Third part of the scripts that change levels.
--
-- A process numbers its calls and waits for each before the next, so its last reply to each kind is enough.
-- The key is a hash: kind -> "number|reply", the reply as integers with blanks between.

local CALLS_MS = 600000

-- The reply that call `number` was given before, or nil.
local function given_before(key, kind, number)
  local last = redis.call('HGET', key, kind)
  if not last then return nil end
  local seen, reply = string.match(last, '^(%d+)|(.*)$')
  if seen ~= number then return nil end
  local values = {}
  for value in string.gmatch(reply, '%S+') do values[#values + 1] = tonumber(value) end
  return values
end

local function remember(key, kind, number, reply)
  local words = {}
  for i, value in ipairs(reply) do words[i] = string.format('%.0f', value) end
  redis.call('HSET', key, kind, number .. '|' .. table.concat(words, ' '))
  redis.call('PEXPIRE', key, CALLS_MS)
  return reply
end
