-- Keeps the newest completed version of record keys: core/newest_version.py.
--
-- KEYS     one a record key
-- ARGV[1]  versions: signed 64-bit numbers with the sign bit flipped, so that they sort as bytes do, u64 big endian each
-- ARGV[2]  time to live, in ms
-- returns  how many are newer than what was kept
--
-- Compared in halves: a Lua number holds 53 bits, and Lua compares strings by the server's locale.

local unpack = struct.unpack
local call, pcall = redis.call, redis.pcall
local versions, ttl_ms = ARGV[1], ARGV[2]
local newer, at = 0, 1
for i = 1, #KEYS do
  local version = string.sub(versions, at, at + 7)
  local kept = pcall('GET', KEYS[i])
  if type(kept) == 'string' and #kept == 8 then
    local high, low = unpack('>I4I4', version)
    local kept_high, kept_low = unpack('>I4I4', kept)
    if kept_high > high or (kept_high == high and kept_low >= low) then
      version = kept
    end
  end
  if version ~= kept then
    newer = newer + 1
  end
  call('SET', KEYS[i], version, 'PX', ttl_ms)
  at = at + 8
end
return newer
