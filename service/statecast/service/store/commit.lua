-- Commits a whole batch atomically. For each key: if the record's last 16 bytes are the stamp that the engine computed
-- from, and the session has not expired, carry out the operation; otherwise leave the key alone and report a conflict.
--
-- KEYS  one record each
-- ARGV  five for each key: operation, expected stamp ('' = the key must not exist), payload, how long Redis keeps the
--       key at least in ms, and its tombstone in ms: a session has expired when its key has no longer than that to live (0 =
--       never)
-- reply for each key: 1 done, 2 done but its time to live was not renewed, 0 conflict, -1 the key does not hold a string,
--       or the error that kept it as it was
--
-- A time to live is set a sixteenth longer than asked for, and renewed once that is used up: renewing it at every commit
-- would write as much to the append-only file as the commit itself.
local function carry_out(key, operation, payload, lifetime, tombstone, left)
  local longer = lifetime + math.floor((lifetime - tombstone) / 16)
  if operation == 'append' then
    -- First, since a full Redis refuses only what comes before a script's first write.
    local reply = redis.pcall('APPEND', key, payload)
    if type(reply) == 'table' then
      return reply
    end
    return left < lifetime and type(redis.pcall('PEXPIRE', key, longer)) == 'table' and 2 or 1
  elseif operation == 'replace' then
    return redis.pcall('SET', key, payload, 'PX', longer)
  elseif operation == 'close' then
    local reply = redis.pcall('DEL', key) -- first, so that a full Redis takes the tombstone in its place
    if type(reply) == 'table' then
      return reply
    end
    redis.pcall('SET', key, payload, 'PX', lifetime)
  end -- 'check' is done by the comparison
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
