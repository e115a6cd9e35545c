-- Reads many values for one reply: a thousand replies would cost their reader several times as much as the values.
--
-- KEYS     of one bucket
-- returns  {the value, or nil where there is none}, in the order of KEYS
-- errors   'CLAIM <index> <what is wrong>' where something else than a string is stored
-- (GET and not MGET: to that one, what is no string is not there)

local found = {}
for index, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then
    return redis.error_reply('CLAIM ' .. index .. ' ' .. value.err)
  end
  found[index] = value
end
return found
