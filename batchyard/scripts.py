"""The Lua that Redis runs for us: what must happen wholly or not at all.

Arguments stand in the comment of each. Keys are computed inside from names (`batchyard.names` has the same
ones); Redis Cluster is not supported, nor does kombu support it. A job's full id and batch name its tenant,
see `names.full_name`.

A Redis that is full refuses a script at its first write, if that may take memory, and not any more behind it.
What finishes accepted work therefore begins with a write that takes none.
"""

from batchyard.queue_scripts import FLOWS

FINAL = """
local function tenant_of(id) return string.match(id, '^([^~]*)~') or 'default' end
local function status_of(document) return document and string.match(document, '^{"status": ?"(%u+)"') end
local function is_final(status) return status == 'SUCCESS' or status == 'FAILURE' or status == 'REVOKED' end
local function expected_of(document)
  return document and string.match(document, '^{"status": ?"QUEUED", ?"result": ?{"model": ?"([^"]*)"}')
end
local function final(key)
  local current = redis.call('GET', key)
  if not current then return nil, nil end
  return is_final(status_of(current)), current
end
local function announce(key, document, id, batch, state, ttl, previous)
  redis.call('PUBLISH', key, document)
  redis.call('ZREM', 'batchyard:deadlines', id)
  local expected = expected_of(previous)
  if expected then redis.call('HINCRBY', 'batchyard:waiting', expected, -1) end
  if redis.call('EXISTS', 'batchyard:claim:' .. id) == 1 then
    local open = 'batchyard:open:' .. tenant_of(id)
    if tonumber(redis.call('GET', open) or 0) > 0 then redis.call('DECR', open) end
  end
  if redis.call('EXISTS', 'batchyard:auditing') == 1 then
    local entry = {'id', id, 'batch', batch, 'state', state}
    -- a job that failed may be opened again before an auditor has read how it failed
    if state == 'FAILURE' then entry[7], entry[8] = 'document', document end
    redis.call('XADD', 'batchyard:finals', '*', unpack(entry))
  end
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
"""What every script that ends jobs is built on. `final(key)`: whether the document under a result key is a
final one (nil without one), and the document. `announce`: to be called with the new document once it is set,
and with the one before: whoever waits for it is told, and all that is counted by jobs is put right.
"""

SUBMIT = (
    FLOWS
    + """
-- ttl, now, tenant, batch, priority, message, n, (job id, digest, model expected or '', deadline or '') * n
-- Claims the ids and queues one router message. All or nothing: {0, positions from 0 of the jobs whose id has
-- another body, in Redis or earlier in this chunk}, {1, number of new jobs}, or {2, whose limit stands in the
-- way: memory, tenant or model, its name, the limit, how many there are, jobs done a second}.
local ttl, tenant, batch, n = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[7])
local conflicts, fresh, seen, models = {}, {}, {}, {}
for i = 0, n - 1 do
  local at = 8 + 4 * i
  local id, digest, model = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local claim = redis.call('GET', 'batchyard:claim:' .. id)
  local claimed = seen[id] or (claim and string.match(claim, '^%S+'))
  if not claimed then
    fresh[#fresh + 1] = {id, digest, model, ARGV[at + 3]}
    seen[id] = digest
    if model ~= '' then models[model] = (models[model] or 0) + 1 end
  elseif claimed ~= digest then
    conflicts[#conflicts + 1] = i
  end
end
if #conflicts > 0 then return {0, conflicts} end
if #fresh == 0 then return {1, 0} end
if redis.call('EXISTS', 'batchyard:full') == 1 then return {2, 'memory', '', '', '', ''} end
local open = 'batchyard:open:' .. tenant
local limits = redis.call('HMGET', 'batchyard:limits', 'tenant:' .. tenant, 'tenant:*')
local limit, count = limits[1] or limits[2], redis.call('GET', open) or '0'
if limit and tonumber(count) + #fresh > tonumber(limit) then
  local rate = 0
  for _, each in ipairs(redis.call('HVALS', 'batchyard:rates')) do rate = rate + tonumber(each) end
  return {2, 'tenant', tenant, limit, count, tostring(rate)}
end
for model, more in pairs(models) do
  limit = redis.call('HGET', 'batchyard:limits', 'model:' .. model)
  count = redis.call('HGET', 'batchyard:waiting', model) or '0'
  if limit and tonumber(count) + more > tonumber(limit) then
    return {2, 'model', model, limit, count, redis.call('HGET', 'batchyard:rates', model) or '0'}
  end
end
-- first of all: what cannot be queued must not be claimed
enqueue('route', ARGV[5], tenant, batch, ARGV[6])
for _, job in ipairs(fresh) do
  local id, expected = job[1], 'null'
  if job[3] ~= '' then expected = '{"model": "' .. job[3] .. '"}' end
  redis.call('SET', 'batchyard:claim:' .. id, job[2] .. ' ' .. batch, 'EX', ttl)
  redis.call('SET', 'celery-task-meta-' .. id, '{"status": "QUEUED", "result": ' .. expected ..
    ', "traceback": null, "children": [], "task_id": "' .. id .. '"}', 'EX', ttl)
  if job[4] ~= '' then redis.call('ZADD', 'batchyard:deadlines', job[4], id) end
end
redis.call('INCRBY', open, #fresh)
for model, more in pairs(models) do redis.call('HINCRBY', 'batchyard:waiting', model, more) end
if batch ~= '' then
  local key = 'batchyard:batch:' .. batch
  redis.call('HINCRBY', key, 'total', #fresh)
  redis.call('HSETNX', key, 'created', ARGV[2])
  local ids = 'batchyard:batch-jobs:' .. batch
  for _, job in ipairs(fresh) do redis.call('RPUSH', ids, job[1]) end
  redis.call('EXPIRE', key, ttl)
  redis.call('EXPIRE', ids, ttl)
end
ring_bell('route', 1)
return {1, #fresh}
"""
)

PUBLISH = (
    FLOWS
    + FINAL
    + """
-- ttl, n, (job id, queue, priority, tenant, batch, message, state document) * n
-- Publishes each job that still waits for its route; one that was routed, finished or cancelled is
-- skipped, so that a chunk delivered twice publishes nothing twice. Returns the number published.
local published, bells = 0, {}
for i = 0, tonumber(ARGV[2]) - 1 do
  local at = 3 + 7 * i
  local id, queue = ARGV[at], ARGV[at + 1]
  local key = 'celery-task-meta-' .. id
  redis.call('EXPIRE', key, ARGV[1])
  redis.call('EXPIRE', 'batchyard:claim:' .. id, ARGV[1])
  local current = redis.pcall('GET', key)
  if not current or (type(current) == 'string' and status_of(current) == 'QUEUED') then
    redis.call('SET', key, ARGV[at + 6], 'EX', ARGV[1])
    local expected, model = expected_of(current), model_of(queue)
    if expected ~= model then
      if expected then redis.call('HINCRBY', 'batchyard:waiting', expected, -1) end
      redis.call('HINCRBY', 'batchyard:waiting', model, 1)
    end
    enqueue(queue, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
    bells[queue] = (bells[queue] or 0) + 1
    published = published + 1
  end
end
for queue, count in pairs(bells) do ring_bell(queue, count) end
return published
"""
)

STORE = (
    FINAL
    + """
-- ttl, job id, batch, state, document, 1 if final, model whose worker ends it or ''
-- Stores a state unless a final one stands already. A final one also goes to whoever waits for it and
-- to its batch's completion stream and counters. Returns 1 if stored.
local key = 'celery-task-meta-' .. ARGV[2]
redis.call('EXPIRE', key, ARGV[1])
redis.call('EXPIRE', 'batchyard:claim:' .. ARGV[2], ARGV[1])
local done, previous = final(key)
if done then return 0 end
redis.call('SET', key, ARGV[5], 'EX', ARGV[1])
if ARGV[6] == '1' then
  announce(key, ARGV[5], ARGV[2], ARGV[3], ARGV[4], ARGV[1], previous)
  if ARGV[7] ~= '' then redis.call('HINCRBY', 'batchyard:done', ARGV[7], 1) end
end
return 1
"""
)

CANCEL = (
    FINAL
    + """
-- ttl, n, (job id, document) * n
-- Ends known jobs that have no result as REVOKED; a worker that has one sees it. Returns how many.
local ended = 0
for i = 0, tonumber(ARGV[2]) - 1 do
  local id, document = ARGV[3 + 2 * i], ARGV[4 + 2 * i]
  local key = 'celery-task-meta-' .. id
  redis.call('EXPIRE', key, ARGV[1])
  local done, previous = final(key)
  if done == false then
    local batch = string.match(redis.call('GET', 'batchyard:claim:' .. id) or '', ' (.*)$') or ''
    redis.call('SET', key, document, 'EX', ARGV[1])
    announce(key, document, id, batch, 'REVOKED', ARGV[1], previous)
    ended = ended + 1
  end
end
return ended
"""
)
