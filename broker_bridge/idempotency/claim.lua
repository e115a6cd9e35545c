-- Claims a batch, in order: core/claim_rules.py CLAIM_RULES, row by row. Checks and writes in one script.
--
-- KEYS     one a request, then the epoch's
-- ARGV[1]  requests, 42 bytes each: nonce 8, fingerprint 8, replay 8, origin 16, attempt u16 (big endian)
-- ARGV[2]  lease in ms        ARGV[3]  time to live of a claim in progress, in ms
-- ARGV[4]  highest token that the caller has seen: new ones are larger
-- ARGV[5]  random letters for a new epoch, which is made where there is none (idempotency/loss_watch.py says why)
-- returns  {answers, epoch, stored, stored, ...}: answers is now in us u64, then 15 bytes a request: status u8,
--          token u64, attempt u16, crashes u16, tries u16; and for each request not granted, in order, the stored claim
--          that stands against it
-- errors   'CLAIM <index> <what is wrong>' when a stored value cannot be read; then nothing was written
--
-- A stored claim (core/claim.py StoredClaim), first byte = 1:
--   1 version  2 state  3-4 attempt  5-6 copy attempt  7-8 crashes  9-10 tries  11-18 nonce  19-26 token
--   27-34 lease end in ms  35-42 fingerprint  43-50 replay  51-66 origin  67-74 settled at in ms  75- detail

local VERSION, HEAD_BYTES, REQUEST_BYTES = 1, 74, 42
local IN_PROGRESS, RETRY, COMPLETED, DEAD_STATE = 1, 2, 3, 4
local GRANTED, BUSY, DONE, CONFLICT, DEAD, SUPERSEDED = 1, 2, 3, 4, 5, 6
local NONE = '\0\0\0\0\0\0\0\0'
local NOT_SETTLED = NONE
local MAX_COUNT = 65535

local sub, byte, max, min = string.sub, string.byte, math.max, math.min
local pack, unpack = struct.pack, struct.unpack
local call = redis.call

local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)
local requests, lease_ms, ttl_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local lease_end = pack('>I8', now_ms + lease_ms)
local least_token = max(tonumber(ARGV[4]) + 1, now_us)

-- Everything is read, and found readable, before anything is written: a refused batch has changed nothing.
local count, epoch_key = #KEYS - 1, KEYS[#KEYS]
local epoch = redis.pcall('GET', epoch_key)
if type(epoch) == 'table' then
  return redis.error_reply('CLAIM ' .. #KEYS .. ' ' .. epoch.err)
end
local found = {}
for i = 1, count do
  local value = redis.pcall('GET', KEYS[i])
  if type(value) == 'table' then
    return redis.error_reply('CLAIM ' .. i .. ' ' .. value.err)
  end
  if value then
    local state = byte(value, 2)
    if byte(value, 1) ~= VERSION or #value < HEAD_BYTES or state < IN_PROGRESS or state > DEAD_STATE then
      return redis.error_reply('CLAIM ' .. i .. ' holds ' .. #value .. ' bytes of layout version '
        .. (byte(value, 1) or 'none') .. ', not a claim of version ' .. VERSION)
    end
    found[KEYS[i]] = value
  end
end

-- Which row matches: a status, and for GRANTED how.
local function match(value, nonce, fingerprint, replay, attempt)
  if not value then
    return GRANTED, 'fresh'
  end
  local state = byte(value, 2)
  if state == DEAD_STATE and replay ~= NONE and replay ~= sub(value, 43, 50) then
    return GRANTED, 'new life'
  end
  local stored_fingerprint = sub(value, 35, 42)
  if stored_fingerprint ~= fingerprint and stored_fingerprint ~= NONE then
    return CONFLICT
  end
  if state == IN_PROGRESS then
    if sub(value, 11, 18) == nonce then
      return GRANTED, 'same'
    end
    if now_ms < unpack('>I8', value, 27) then
      return BUSY
    end
    return GRANTED, 'take over'
  end
  if state == RETRY then
    if attempt < unpack('>I2', value, 5) then
      return SUPERSEDED
    end
    return GRANTED, 'again'
  end
  return state == COMPLETED and DONE or DEAD
end

if not epoch then
  epoch = string.format('%.0f', now_us) .. '-' .. ARGV[5]
  call('SET', epoch_key, epoch)
end

local reply, answers = { '', epoch }, { pack('>I8', now_us) }
for i = 1, count do
  local key, at = KEYS[i], (i - 1) * REQUEST_BYTES + 1
  local nonce, fingerprint = sub(requests, at, at + 7), sub(requests, at + 8, at + 15)
  local replay, origin = sub(requests, at + 16, at + 23), sub(requests, at + 24, at + 39)
  local attempt = unpack('>I2', requests, at + 40)
  local value = found[key]
  local status, how = match(value, nonce, fingerprint, replay, attempt)
  if status == GRANTED then
    local token, spent, copy, crashes, tries = least_token, attempt, attempt, 0, 0
    if value then
      local stored_attempt, stored_copy, stored_crashes, stored_tries = unpack('>I2I2I2I2', value, 3)
      local stored_token = unpack('>I8', value, 19)
      token, spent = max(stored_token + 1, least_token), max(stored_attempt, attempt)
      crashes, tries = stored_crashes, stored_tries
      if how == 'same' then
        token, copy, origin, replay = stored_token, stored_copy, sub(value, 51, 66), NONE
      elseif how == 'take over' then
        crashes = min(stored_crashes + 1, MAX_COUNT)
      elseif how == 'new life' then
        spent, copy, crashes, tries = 0, 0, 0, 0
      end
      if replay == NONE then
        replay = sub(value, 43, 50)
      end
    end
    value = pack('>BBI2I2I2I2', VERSION, IN_PROGRESS, spent, copy, crashes, tries) .. nonce .. pack('>I8', token)
      .. lease_end .. fingerprint .. replay .. origin .. NOT_SETTLED
    call('SET', key, value, 'PX', ttl_ms)
    found[key] = value
    answers[i + 1] = pack('>BI8I2I2I2', GRANTED, token, spent, crashes, tries)
  else
    answers[i + 1] = pack('>BI8I2I2I2', status, 0, 0, 0, 0)
    reply[#reply + 1] = value
  end
end
reply[1] = table.concat(answers)
return reply
