"""The Lua scripts of the cluster. A script is atomic, which matters because several nodes act at the same time."""

from __future__ import annotations

from typing import Final

from .cluster import NODE_LENGTH

EPOCH_LENGTH: Final = 16
"""Digits of microseconds since 1970. Epochs compare correctly as text, and as the numbers of a script."""

# All nodes share only the clock of the store.
_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
BEAT: Final = f"""{_NOW}
local forgotten = redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
-- Later times are from before the clock was set back.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. (now + ARGV[2]), '+inf')
return {{time[1] .. string.format('%06d', time[2]), redis.call('ZRANGE', KEYS[1], 0, -1), forgotten}}
"""
# A value consists of the node, the epoch and the owner. The script returns the epoch of the claim.
CLAIM: Final = f"""{_NOW}
local node, mode, epoch, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held = redis.call('GET', KEYS[1])
local holder, since, other
if held then
  holder, since, other = string.sub(held, 1, {NODE_LENGTH}),
    string.sub(held, {NODE_LENGTH + 1}, {NODE_LENGTH + EPOCH_LENGTH}), string.sub(held, {NODE_LENGTH + EPOCH_LENGTH + 1})
end
-- A request that the store reads late, after it hung, does not count as a new connection: its client has stopped waiting.
if mode ~= 'renew' and time[1] * 1000000 + time[2] - epoch > tonumber(ARGV[9]) then mode = 'renew' end
if mode ~= 'renew' then
  epoch = time[1] .. string.format('%06d', time[2])
  if held and epoch <= since then epoch = string.format('%0{EPOCH_LENGTH}.0f', tonumber(since) + 1) end
end
if held and holder ~= node then
  local till = redis.call('ZSCORE', KEYS[2], holder)
  if till and tonumber(till) > now then
    if mode == 'ask' then return false end
    if mode == 'renew' then
      local newer = epoch > since or (epoch == since and node > holder)
      if newer ~= (owner == other) then return false end
    end
    redis.call('PUBLISH', ARGV[6] .. holder, ARGV[7] .. since .. ARGV[8])
  end
elseif held and since > epoch then
  epoch = since
end
redis.call('SET', KEYS[1], node .. epoch .. owner, 'EX', ARGV[5])
return epoch
"""
LOCATE: Final = f"""
local held = redis.call('GET', KEYS[1])
if not held then return false end
{_NOW}
local holder = string.sub(held, 1, {NODE_LENGTH})
local till = redis.call('ZSCORE', KEYS[2], holder)
if till and tonumber(till) > now then return holder end
return false
"""
RELEASE: Final = f"""
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, {NODE_LENGTH}) == ARGV[1]
  and string.sub(held, {NODE_LENGTH + 1}, {NODE_LENGTH + EPOCH_LENGTH}) <= ARGV[2] then
  redis.call('DEL', KEYS[1])
end
"""

REMEMBER: Final = f"""{_NOW}
for place = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], 'GT', ARGV[place], ARGV[place + 1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] then redis.call('EXPIREAT', KEYS[1], math.ceil(last[2])) end
"""
