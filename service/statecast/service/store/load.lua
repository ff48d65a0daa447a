-- Reads a whole batch: for each key its value and how long Redis keeps it yet in ms (-1: for ever), or two nils where
-- there is no string.
local replies = {}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  if type(value) == 'table' and value.err and not string.find(value.err, 'WRONGTYPE', 1, true) then
    return value -- an error, for a session that cannot be read is not one that does not exist
  end
  local is_there = type(value) == 'string'
  replies[2 * i - 1] = is_there and value
  replies[2 * i] = is_there and redis.call('PTTL', key)
end
return replies
