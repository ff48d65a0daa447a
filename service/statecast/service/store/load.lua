-- Reads a whole batch: for each key its value and its remaining lifetime in ms (-1: no limit), or two nils if the key
-- holds no string.
local replies = {}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  if type(value) == 'table' and value.err and not string.find(value.err, 'WRONGTYPE', 1, true) then
    return value -- an error: an unreadable session is not a missing one
  end
  local is_there = type(value) == 'string'
  replies[2 * i - 1] = is_there and value
  replies[2 * i] = is_there and redis.call('PTTL', key)
end
return replies
