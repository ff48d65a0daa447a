-- Commits a whole batch atomically. For each key: if the record's last 16 bytes are the stamp that the engine computed
-- from, carry out the operation; otherwise leave the key alone and report a conflict.
--
-- KEYS  one record each
-- ARGV  four for each key: operation, expected stamp ('' = the key must not exist), payload, time to live in ms
-- reply for each key: 1 done, 2 done but its time to live was not renewed, 0 conflict, -1 the key does not hold a string,
--       or the error that kept it as it was
local function carry_out(key, operation, payload, ttl)
  if operation == 'append' then
    -- First, since a full Redis refuses only what comes before a script's first write.
    local reply = redis.pcall('APPEND', key, payload)
    if type(reply) == 'table' then
      return reply
    end
    return type(redis.pcall('PEXPIRE', key, ttl)) == 'table' and 2 or 1
  elseif operation == 'replace' then
    return redis.pcall('SET', key, payload, 'PX', ttl)
  elseif operation == 'delete' then
    return redis.pcall('DEL', key)
  end -- 'check' is done by the comparison
end

local replies = {}
for i, key in ipairs(KEYS) do
  local operation, expected, payload, ttl = unpack(ARGV, 4 * i - 3, 4 * i)
  local stamp = redis.pcall('GETRANGE', key, -16, -1)
  if type(stamp) == 'table' then
    replies[i] = -1
  elseif stamp ~= expected then
    replies[i] = 0
  else
    local reply = carry_out(key, operation, payload, ttl)
    if type(reply) == 'table' and reply.err then
      replies[i] = reply.err
    else
      replies[i] = reply == 2 and 2 or 1
    end
  end
end
return replies
