"""The Lua that Redis runs for us: what must happen wholly or not at all.

Arguments stand in the comment of each. All keys are derived in `batchyard.names`; Redis Cluster is not
supported (kombu does not support it either), so keys may be computed inside.
"""

SUBMIT = """
-- ttl, batch, now, list, message, result key prefix, claim key prefix, bell, n, (job id, digest) * n
-- Claims the ids and pushes one router message. All or nothing: {0, positions from 0 of the jobs whose id
-- has another body, in Redis or earlier in this chunk} or {1, number of new jobs}.
local ttl, batch, n = ARGV[1], ARGV[2], tonumber(ARGV[9])
local conflicts, fresh, seen = {}, {}, {}
for i = 0, n - 1 do
  local id, digest = ARGV[10 + 2 * i], ARGV[11 + 2 * i]
  local claim = redis.call('GET', ARGV[7] .. id)
  local claimed = seen[id] or (claim and string.match(claim, '^%S+'))
  if not claimed then
    fresh[#fresh + 1] = {id, digest .. ' ' .. batch}
    seen[id] = digest
  elseif claimed ~= digest then
    conflicts[#conflicts + 1] = i
  end
end
if #conflicts > 0 then return {0, conflicts} end
if #fresh == 0 then return {1, 0} end
for _, job in ipairs(fresh) do
  redis.call('SET', ARGV[7] .. job[1], job[2], 'EX', ttl)
  redis.call('SET', ARGV[6] .. job[1],
    '{"status": "QUEUED", "result": null, "traceback": null, "children": [], "task_id": "' .. job[1] .. '"}',
    'EX', ttl)
end
if batch ~= '' then
  local key = 'batchyard:batch:' .. batch
  redis.call('HINCRBY', key, 'total', #fresh)
  redis.call('HSETNX', key, 'created', ARGV[3])
  local ids = 'batchyard:batch-jobs:' .. batch
  for _, job in ipairs(fresh) do redis.call('RPUSH', ids, job[1]) end
  redis.call('EXPIRE', key, ttl)
  redis.call('EXPIRE', ids, ttl)
end
redis.call('LPUSH', ARGV[4], ARGV[5])
redis.call('LPUSH', ARGV[8], 1)
redis.call('LTRIM', ARGV[8], 0, 63)
redis.call('EXPIRE', ARGV[8], 60)
return {1, #fresh}
"""

PUBLISH = """
-- result key prefix, ttl, n, (job id, list, bell, message, state document) * n
-- Publishes each job that still waits for its route; one that was routed, finished or cancelled is
-- skipped, so that a chunk delivered twice publishes nothing twice. Returns the number published.
local published, bells = 0, {}
for i = 0, tonumber(ARGV[3]) - 1 do
  local at = 4 + 5 * i
  local key = ARGV[1] .. ARGV[at]
  local current = redis.call('GET', key)
  if not current or string.match(current, '^{"status": ?"(%u+)"') == 'QUEUED' then
    redis.call('SET', key, ARGV[at + 4], 'EX', ARGV[2])
    redis.call('LPUSH', ARGV[at + 1], ARGV[at + 3])
    local bell = ARGV[at + 2]
    bells[bell] = (bells[bell] or 0) + 1
    published = published + 1
  end
end
for bell, count in pairs(bells) do
  for i = 1, math.min(count, 64) do redis.call('LPUSH', bell, 1) end
  redis.call('LTRIM', bell, 0, 63)
  redis.call('EXPIRE', bell, 60)
end
return published
"""

_FINAL = """
local function final(key)
  local current = redis.call('GET', key)
  if not current then return nil end
  local status = string.match(current, '^{"status": ?"(%u+)"')
  return status == 'SUCCESS' or status == 'FAILURE' or status == 'REVOKED'
end
local function announce(key, document, id, batch, state, ttl)
  redis.call('PUBLISH', key, document)
  if batch ~= '' then
    local counters = 'batchyard:batch:' .. batch
    redis.call('HINCRBY', counters, state, 1)
    local stream = 'batchyard:batch-done:' .. batch
    redis.call('XADD', stream, '*', 'id', id)
    redis.call('EXPIRE', counters, ttl)
    redis.call('EXPIRE', stream, ttl)
  end
end
"""

STORE = (
    _FINAL
    + """
-- result key, ttl, job id, batch, state, document, 1 if final
-- Stores a state unless a final one stands already. A final one also goes to whoever waits for it and
-- to its batch's completion stream and counters. Returns 1 if stored.
if final(ARGV[1]) then return 0 end
redis.call('SET', ARGV[1], ARGV[6], 'EX', ARGV[2])
if ARGV[7] == '1' then announce(ARGV[1], ARGV[6], ARGV[3], ARGV[4], ARGV[5], ARGV[2]) end
return 1
"""
)

CANCEL = (
    _FINAL
    + """
-- result key, ttl, job id, claim key, document
-- Ends a known job that has no result as REVOKED. Returns 1 if it did.
if final(ARGV[1]) ~= false then return 0 end
local batch = string.match(redis.call('GET', ARGV[4]) or '', ' (.*)$') or ''
redis.call('SET', ARGV[1], ARGV[5], 'EX', ARGV[2])
announce(ARGV[1], ARGV[5], ARGV[3], batch, 'REVOKED', ARGV[2])
return 1
"""
)
