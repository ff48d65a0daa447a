-- Commits a whole batch atomically. For each key: if the record's last 16 bytes are the stamp that the engine computed
-- from, and the session has not expired, carry out the operation; otherwise leave the key alone and report a conflict.
--
-- KEYS  one record each
-- ARGV  five for each key: operation, expected stamp ('' = the key must not exist), payload, how long Redis keeps the
--       key in ms, and its trace in ms: a session has expired when its key has no longer than that to live (0 = never)
-- reply for each key: 1 done, 2 done but its time to live was not renewed, 0 conflict, -1 the key does not hold a string,
--       or the error that kept it as it was
local function carry_out(key, operation, payload, lifetime)
  if operation == 'append' then
    -- First, since a full Redis refuses only what comes before a script's first write.
    local reply = redis.pcall('APPEND', key, payload)
    if type(reply) == 'table' then
      return reply
    end
    return type(redis.pcall('PEXPIRE', key, lifetime)) == 'table' and 2 or 1
  elseif operation == 'replace' then
    return redis.pcall('SET', key, payload, 'PX', lifetime)
  elseif operation == 'close' then
    local reply = redis.pcall('DEL', key) -- first, so that a full Redis takes the trace in its place
    if type(reply) == 'table' then
      return reply
    end
    redis.pcall('SET', key, payload, 'PX', lifetime)
  end -- 'check' is done by the comparison
end

local function has_expired(key, trace)
  if trace == 0 then
    return false
  end
  local left = redis.call('PTTL', key)
  return left >= 0 and left <= trace
end

local replies = {}
for i, key in ipairs(KEYS) do
  local operation, expected, payload, lifetime, trace = unpack(ARGV, 5 * i - 4, 5 * i)
  local stamp = redis.pcall('GETRANGE', key, -16, -1)
  if type(stamp) == 'table' then
    replies[i] = -1
  elseif stamp ~= expected or has_expired(key, tonumber(trace)) then
    replies[i] = 0
  else
    local reply = carry_out(key, operation, payload, lifetime)
    if type(reply) == 'table' and reply.err then
      replies[i] = reply.err
    else
      replies[i] = reply == 2 and 2 or 1
    end
  end
end
return replies
