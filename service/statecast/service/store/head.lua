-- Reads the beginnings of many records: for each key at most 1,024 bytes, which hold its header and the names of its
-- model, and its remaining lifetime in ms (-1: no limit); or two nils if the key holds no string.
local replies = {}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GETRANGE', key, 0, 1023)
  if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then
    return value
  end
  local is_there = type(value) == 'string' and value ~= ''
  replies[2 * i - 1] = is_there and value
  replies[2 * i] = is_there and redis.call('PTTL', key)
end
return replies
