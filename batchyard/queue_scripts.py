"""The Lua that moves messages: flows and their turns, one taken with its lease, given back, how many wait.

It knows queues, leases and delivery tags; of jobs only that one which has its final state is dropped. What
ends jobs, and what a full Redis refuses, stands in `batchyard.scripts`.
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
