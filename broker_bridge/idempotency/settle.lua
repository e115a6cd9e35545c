-- Ends a batch of claims: core/claim_rules.py SETTLE_RULES. The stored layout is drawn in claim.lua.
--
-- KEYS     one a settlement
-- ARGV[1]  settlements: nonce 8, token u64, kind u8, attempt u16, tries u16, length u16 (big endian), then that many bytes
--          of detail
-- ARGV[2]  time to live of a settled claim, in ms
-- returns  one byte a settlement: 1 OK, 2 STALE

local VERSION, HEAD_BYTES, SETTLEMENT_BYTES = 1, 74, 23
local IN_PROGRESS, RETRY, COMPLETED, DEAD_STATE = 1, 2, 3, 4
local COMPLETE, HAND_TO_COPY, RELEASE, BURY = 1, 2, 3, 4 -- settlement kinds
local TARGET = { [COMPLETE] = COMPLETED, [HAND_TO_COPY] = RETRY, [RELEASE] = RETRY, [BURY] = DEAD_STATE }
local OK, STALE = '\1', '\2'

local sub, byte, max = string.sub, string.byte, math.max
local pack, unpack = struct.pack, struct.unpack
local call = redis.call

local time = call('TIME')
local settled_at = pack('>I8', time[1] * 1000 + math.floor(time[2] / 1000))
local settlements, ttl_ms = ARGV[1], ARGV[2]

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

local answers, at = {}, 1
for i = 1, #KEYS do
  local key = KEYS[i]
  local value = found[key]
  local owner = sub(settlements, at, at + 15)
  local kind, attempt, tries, length = unpack('>BI2I2I2', settlements, at + 16)
  answers[i] = STALE
  if value and sub(value, 11, 26) == owner then
    local state, target = byte(value, 2), TARGET[kind]
    local after
    if state == IN_PROGRESS then
      local spent, copy, crashes, stored_tries = unpack('>I2I2I2I2', value, 3)
      local detail = ''
      if kind == HAND_TO_COPY then
        spent, copy = attempt, attempt
      elseif kind ~= RELEASE then
        detail = sub(settlements, at + SETTLEMENT_BYTES, at + SETTLEMENT_BYTES + length - 1)
      end
      after = pack('>BBI2I2I2I2', VERSION, target, spent, copy, crashes, max(stored_tries, tries))
        .. sub(value, 11, 66) .. settled_at .. detail
    elseif state == target then
      after = value -- a repeated call; written again, so that WAIT after it waits for something
    end
    if after then
      call('SET', key, after, 'PX', ttl_ms)
      found[key] = after
      answers[i] = OK
    end
  end
  at = at + SETTLEMENT_BYTES + length
end
return table.concat(answers)
