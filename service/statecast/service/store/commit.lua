-- Commits a whole batch atomically. A key's operation is carried out if the record ends in the expected stamp and the
-- session has not expired. Otherwise the key stays as it is, and the reply is a conflict.
--
-- KEYS  one record each
-- ARGV  five per key: operation, expected stamp ('' = the key must not exist), payload, minimum lifetime of the key in
--       ms, tombstone in ms. The session has expired when its key has no longer than the tombstone left (0 = never).
-- reply per key: 1 done, 2 done but its lifetime was not renewed, 0 conflict, -1 the key does not hold a string, or the
--       error that left it unchanged
--
-- A lifetime is set a sixteenth longer than asked for, and renewed once that is used up. Renewing it at every commit
-- would write as much to the append-only file as the commit itself. A session that ends gets a lifetime shorter than
-- the tombstone that it had, and no more.
local function carry_out(key, operation, payload, lifetime, tombstone, left)
  local longer = lifetime + math.max(0, math.floor((lifetime - tombstone) / 16))
  if operation == 'append' then
    -- First, since a full Redis refuses only commands before a script's first write.
    local reply = redis.pcall('APPEND', key, payload)
    if type(reply) == 'table' then
      return reply
    end
    return left < lifetime and type(redis.pcall('PEXPIRE', key, longer)) == 'table' and 2 or 1
  elseif operation == 'replace' then
    return redis.pcall('SET', key, payload, 'PX', longer)
  elseif operation == 'close' then
    local reply = redis.pcall('DEL', key) -- first, so that a full Redis accepts the tombstone
    if type(reply) == 'table' then
      return reply
    end
    redis.pcall('SET', key, payload, 'PX', lifetime)
  end -- 'check' needs only the comparison
end

local replies = {}
for i, key in ipairs(KEYS) do
  local operation, expected, payload, lifetime, tombstone = unpack(ARGV, 5 * i - 4, 5 * i)
  lifetime, tombstone = tonumber(lifetime), tonumber(tombstone)
  local stamp = redis.pcall('GETRANGE', key, -16, -1)
  local left = redis.call('PTTL', key)
  if type(stamp) == 'table' then
    replies[i] = string.find(stamp.err, 'WRONGTYPE', 1, true) and -1 or stamp.err
  elseif stamp ~= expected or (tombstone > 0 and left >= 0 and left <= tombstone) then
    replies[i] = 0
  else
    local reply = carry_out(key, operation, payload, lifetime, tombstone, left)
    if type(reply) == 'table' and reply.err then
      replies[i] = reply.err
    else
      replies[i] = reply == 2 and 2 or 1
    end
  end
end
return replies
