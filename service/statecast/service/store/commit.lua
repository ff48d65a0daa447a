-- Commits a whole batch atomically. For each key: if the record's last 16 bytes are the stamp that the engine computed
-- from, carry out the operation; otherwise leave the key alone and report a conflict.
--
-- KEYS  one record each
-- ARGV  four for each key: operation, expected stamp ('' = the key must not exist), payload, time to live in ms
-- reply for each key: 1 done, 0 conflict, -1 the key does not hold a string, or the error that kept it as it was
local function carry_out(key, operation, payload, ttl)
  if operation == 'append' then
    -- The time to live goes first: should it be refused, nothing has been appended yet.
    local reply = redis.pcall('PEXPIRE', key, ttl)
    return type(reply) == 'table' and reply or redis.pcall('APPEND', key, payload)
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
    replies[i] = type(reply) == 'table' and reply.err or 1
  end
end
return replies
