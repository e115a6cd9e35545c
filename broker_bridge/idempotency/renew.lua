-- Extends a batch of leases: core/claim_rules.py apply_renew. The stored layout is drawn in claim.lua.
--
-- KEYS     one a claim in hand
-- ARGV[1]  claims in hand, 20 bytes each: nonce 8, token u64, attempt u16, tries u16 (big endian)
-- ARGV[2]  lease in ms        ARGV[3]  time to live of a claim in progress, in ms
-- returns  one byte a claim: 1 extended, 0 no longer ours

local VERSION, HEAD_BYTES, HELD_BYTES = 1, 74, 20
local IN_PROGRESS, DEAD_STATE = 1, 4

local sub, byte, max = string.sub, string.byte, math.max
local pack, unpack = struct.pack, struct.unpack
local call = redis.call

local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local in_hand, lease_ms, ttl_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local lease_end = pack('>I8', now_ms + lease_ms)

-- What is no claim (another type, another layout, damage) is not ours either, and is left as it is.
local found = {}
for i = 1, #KEYS do
  local value = redis.pcall('GET', KEYS[i])
  if type(value) == 'string' and byte(value, 1) == VERSION and #value >= HEAD_BYTES then
    local state = byte(value, 2)
    if state >= IN_PROGRESS and state <= DEAD_STATE then
      found[KEYS[i]] = value
    end
  end
end

local answers = {}
for i = 1, #KEYS do
  local key, at = KEYS[i], (i - 1) * HELD_BYTES + 1
  local value = found[key]
  local owner = sub(in_hand, at, at + 15)
  if value and byte(value, 2) == IN_PROGRESS and sub(value, 11, 26) == owner then
    local stored_attempt, copy, crashes, stored_tries = unpack('>I2I2I2I2', value, 3)
    local attempt, tries = unpack('>I2I2', in_hand, at + 16)
    local counts = pack('>I2I2I2I2', max(stored_attempt, attempt), copy, crashes, max(stored_tries, tries))
    value = sub(value, 1, 2) .. counts .. sub(value, 11, 26) .. lease_end .. sub(value, 35)
    call('SET', key, value, 'PX', ttl_ms)
    found[key] = value
    answers[i] = '\1'
  else
    answers[i] = '\0'
  end
end
return table.concat(answers)
