"""The Lua that Redis runs for us: what must happen wholly or not at all.

Arguments stand in the comment of each. Keys are computed inside from names (`batchyard.names` has the same
ones); Redis Cluster is not supported, nor does kombu support it. A job's full id and batch name its tenant,
see `names.full_name`.

A Redis that is full refuses a script at its first write, if that may take memory, and not any more behind it.
What finishes accepted work therefore begins with a write that takes none.
"""

FLOWS = """
local function ring_of(queue, priority) return 'batchyard:ring|' .. queue .. '|' .. priority end
local function flow_of(queue, priority, tenant, batch)
  return 'batchyard:flow|' .. queue .. '|' .. priority .. '|' .. tenant .. '|' .. batch
end
local function enqueue(queue, priority, tenant, batch, message)
  if redis.call('LPUSH', flow_of(queue, priority, tenant, batch), message) == 1 then
    local ring = ring_of(queue, priority)
    if redis.call('LPUSH', ring .. '|' .. tenant, batch) == 1 then redis.call('LPUSH', ring, tenant) end
  end
end
local function ring_bell(queue, times)
  local bell = 'batchyard:bell:' .. queue
  for i = 1, math.min(times, 64) do redis.call('LPUSH', bell, 1) end
  redis.call('LTRIM', bell, 0, 63)
  redis.call('EXPIRE', bell, 60)
end
local function model_of(queue) return string.match(queue, '^model%.(.*)$') end
"""
"""Flows of a queue: `enqueue` puts a message into its flow, and the flow where it has its turn."""

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

CLOCK = """
local function server_seconds()
  local now = redis.call('TIME')
  return now[1] + now[2] / 1000000
end
local function lease_seconds(index)
  return server_seconds() - tonumber(redis.call('HGET', index .. ':looked', 'skipped') or 0)
end
"""
"""`lease_seconds`: what leases are counted by. It is Redis's clock, but it stands still while nobody can
reach Redis: who lives comes back to leases as old as they were, and who is dead is none the younger for it.
"""

POP = (
    CLOCK
    + FLOWS
    + """
-- key 1: lease index, key 2: unacked hash, then kombu's lists, by priority and the queues in turn within one
-- args: result key prefix, then for each list its queue, its priority, 1 if its consumer acknowledges
-- Takes the first message of the lists and, behind each, of its queue's flows in their turn; it is recorded
-- with its lease in the same call: [message, where it came from, queue]. A task that has its final result (it
-- was cancelled, say) is dropped here: handing 50,000 of them to workers would hold up the queue for minutes.
-- Returns {queue, message, tenant of its flow or ''}, or how many were dropped if there was nothing else.
local function finished(message)
  local id = string.match(message, '"id": ?"([^"]+)"')
  local state = id and redis.pcall('GET', ARGV[1] .. id)
  if type(state) ~= 'string' then return false end
  local status = string.match(state, '^{"status": ?"(%u+)"')
  return status == 'SUCCESS' or status == 'FAILURE' or status == 'REVOKED'
end
local function next_of_flows(queue, priority)
  local ring = ring_of(queue, priority)
  local tenant = redis.call('RPOPLPUSH', ring, ring)
  while tenant do
    local batches = ring .. '|' .. tenant
    -- a tenant's own keys may hold anything; that must not stop the others
    local batch = redis.pcall('RPOPLPUSH', batches, batches)
    local message = nil
    if type(batch) == 'string' then
      local flow = flow_of(queue, priority, tenant, batch)
      message = redis.pcall('RPOP', flow)
      if type(message) ~= 'string' then message = nil end
      if not message or redis.call('EXISTS', flow) == 0 then redis.call('LREM', batches, 1, batch) end
    end
    if type(batch) ~= 'string' or redis.call('EXISTS', batches) == 0 then
      redis.call('LREM', ring, 1, tenant)
    end
    if message then
      local model = model_of(queue)
      if model then redis.call('HINCRBY', 'batchyard:waiting', model, -1) end
      return message, tenant, batch
    end
    tenant = redis.call('RPOPLPUSH', ring, ring)
  end
  return nil
end
local dropped = 0
for i = 3, #KEYS do
  local at = 2 + 3 * (i - 3)
  local queue, priority, acknowledged = ARGV[at], ARGV[at + 1], ARGV[at + 2] == '1'
  local function take()
    local message = redis.call('RPOP', KEYS[i])
    if message then return message, nil, nil end
    return next_of_flows(queue, priority)
  end
  local message, tenant, batch = take()
  while message and finished(message) do
    dropped = dropped + 1
    if dropped >= 1000 then return dropped end
    message, tenant, batch = take()
  end
  if message then
    -- what has no tag is no message of Celery's; the caller sets it aside
    local tag = string.match(message, '"delivery_tag": ?"([^"]+)"')
    if tag and acknowledged then
      local origin = priority
      if tenant then origin = priority .. '|' .. tenant .. '|' .. batch end
      redis.call('ZADD', KEYS[1], lease_seconds(KEYS[1]), tag)
      redis.call('HSET', KEYS[2], tag, '[' .. message .. ', "' .. origin .. '", "' .. queue .. '"]')
    end
    return {queue, message, tenant or ''}
  end
end
if dropped > 0 then return dropped end
return nil
"""
)

PUSH = """
-- key 1: list, key 2: bell; args: message
redis.call('PERSIST', KEYS[2])
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LPUSH', KEYS[2], 1)
redis.call('LTRIM', KEYS[2], 0, 63)
redis.call('EXPIRE', KEYS[2], 60)
"""
"""What a role publishes itself: the next attempt of a job, first of all."""

RENEW = (
    CLOCK
    + """
-- key: lease index; args: tags
-- Renews the leases of the messages that are still recorded. Returns the tags of those that are not: they
-- were given to others.
redis.call('ZREM', KEYS[1], '')
local now, gone = lease_seconds(KEYS[1]), {}
for _, tag in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[1], tag) then
    redis.call('ZADD', KEYS[1], now, tag)
  else
    gone[#gone + 1] = tag
  end
end
return gone
"""
)

RESTORE = (
    CLOCK
    + FLOWS
    + """
-- key 1: lease index, key 2: unacked hash; args: seconds of a lease, 1 if to the back, separator of kombu's
-- lists, tag or '' for all messages whose lease has ended (100 at most)
-- Gives messages back to where they came from, to the front unless to the back; they get another tag, so that
-- whoever had them before can no longer acknowledge or renew them. A lapsed lease is counted in the header
-- `lost`. If nobody has looked for as long as a lease lasts, everybody was cut off from Redis, and the time
-- does not count. Returns {how many were given back, tag and record of what could not be read ...}.
redis.call('ZREM', KEYS[1], '')
local lapsed, back = ARGV[4] == '', ARGV[2] == '1'
local tags = {ARGV[4]}
if lapsed then
  local now, lease, looked = server_seconds(), tonumber(ARGV[1]), KEYS[1] .. ':looked'
  local gap = now - tonumber(redis.call('HGET', looked, 'at') or now)
  redis.call('HSET', looked, 'at', now)
  if gap > lease then redis.call('HINCRBYFLOAT', looked, 'skipped', gap) end
  tags = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', lease_seconds(KEYS[1]) - lease, 'LIMIT', 0, 100)
end
local answer = {0}
for _, tag in ipairs(tags) do
  local record = redis.call('HGET', KEYS[2], tag)
  local message, origin, queue = string.match(record or '', '^%[(.*), "([^"]*)", "([^"]*)"%]$')
  local priority, tenant, batch = string.match(origin or '', '^(%d)|([^|]*)|(.*)$')
  priority = priority or string.match(origin or '', '^%d$')
  if priority then
    local base, times = string.match(tag, '^(.*)%-(%d+)$')
    local another = '"delivery_tag":"' .. (base or tag) .. '-' .. (tonumber(times or 0) + 1) .. '"'
    message = string.gsub(message, '"delivery_tag": ?"[^"]+"', function() return another end, 1)
    message = string.gsub(message, '"redelivered": ?false', '"redelivered":true', 1)
    if lapsed then
      message = string.gsub(message, '"lost": ?(%d+)', function(n) return '"lost":' .. (n + 1) end, 1)
    end
    local side = back and 'LPUSH' or 'RPUSH'
    if tenant then
      local ring = ring_of(queue, priority)
      redis.call(side, flow_of(queue, priority, tenant, batch), message)
      redis.call('LREM', ring .. '|' .. tenant, 1, batch)
      redis.call(side, ring .. '|' .. tenant, batch)
      redis.call('LREM', ring, 1, tenant)
      redis.call(side, ring, tenant)
      local model = model_of(queue)
      if model then redis.call('HINCRBY', 'batchyard:waiting', model, 1) end
    else
      redis.call(side, priority == '0' and queue or queue .. ARGV[3] .. priority, message)
    end
    -- taken off behind that: what Redis refuses to take must not be gone
    redis.call('ZREM', KEYS[1], tag)
    redis.call('HDEL', KEYS[2], tag)
    ring_bell(queue, 1)
    answer[1] = answer[1] + 1
  else
    redis.call('ZREM', KEYS[1], tag)
    redis.call('HDEL', KEYS[2], tag)
    if record then
      answer[#answer + 1] = tag
      answer[#answer + 1] = record
    end
  end
end
return answer
"""
)

LENGTH = (
    FLOWS
    + """
-- separator of kombu's lists, highest priority number, queue; returns the messages that wait in it
local total = 0
for priority = 0, tonumber(ARGV[2]) do
  local list = ARGV[3]
  if priority > 0 then list = list .. ARGV[1] .. priority end
  total = total + redis.call('LLEN', list)
  local ring = ring_of(ARGV[3], priority)
  for _, tenant in ipairs(redis.call('LRANGE', ring, 0, -1)) do
    for _, batch in ipairs(redis.call('LRANGE', ring .. '|' .. tenant, 0, -1)) do
      total = total + redis.call('LLEN', flow_of(ARGV[3], priority, tenant, batch))
    end
  end
end
return total
"""
)
