-- Counts attempts at a target and sums them up over a window: core/attempt_tally.py, by Redis' own clock.
--
-- KEYS[1]  the tally's
-- ARGV[1]  first attempts        ARGV[2]  further ones        ARGV[3]  window in ms
-- returns  {first attempts, further ones} of all who report, within the window
-- errors   'CLAIM 1 <what is wrong>' when the stored value cannot be read; then nothing was written
--
-- A stored tally: the longest window asked for, in ms, u32; then for each second with counts, oldest first: the second
-- u32, first attempts u32, further ones u32 (big endian).

local HEAD_BYTES, SLOT_BYTES, SLOT_MS, MAX_COUNT = 4, 12, 1000, 4294967295

local sub, min, max, floor = string.sub, math.min, math.max, math.floor
local pack, unpack = struct.pack, struct.unpack

local time = redis.call('TIME')
local now_s, now_ms = tonumber(time[1]), time[1] * 1000 + floor(time[2] / 1000)
local first, again, window_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return redis.error_reply('CLAIM 1 ' .. stored.err)
end
if stored and (#stored < HEAD_BYTES or (#stored - HEAD_BYTES) % SLOT_BYTES ~= 0) then
  return redis.error_reply('CLAIM 1 holds ' .. #stored .. ' bytes, not a tally')
end

local function first_second(of_ms)
  return floor((now_ms - of_ms) / SLOT_MS)
end

local keep_ms = stored and max(unpack('>I4', stored), window_ms) or window_ms
local oldest_kept, oldest_counted = first_second(keep_ms), first_second(window_ms)
local slots, sum_first, sum_again = {}, 0, 0
for at = HEAD_BYTES + 1, stored and #stored or 0, SLOT_BYTES do
  local second, slot_first, slot_again = unpack('>I4I4I4', stored, at)
  if second == now_s then
    first, again = min(first + slot_first, MAX_COUNT), min(again + slot_again, MAX_COUNT)
  elseif second >= oldest_kept and second < now_s then
    slots[#slots + 1] = sub(stored, at, at + SLOT_BYTES - 1)
    if second >= oldest_counted then
      sum_first, sum_again = sum_first + slot_first, sum_again + slot_again
    end
  end
end
if first > 0 or again > 0 then
  slots[#slots + 1] = pack('>I4I4I4', now_s, first, again)
end
redis.call('SET', KEYS[1], pack('>I4', keep_ms) .. table.concat(slots), 'PX', keep_ms + SLOT_MS)
return { sum_first + first, sum_again + again }
