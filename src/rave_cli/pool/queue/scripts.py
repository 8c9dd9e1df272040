"""The steps of the queue that must happen whole, in Lua, which Redis runs one at a time.

`jobs` is a stream with one consumer group. A job that waits or runs is one entry of it, and what is
known of it lies in the hash `rave:job:NAME`. Whoever holds the entry in the group's list of pending
ones has the job, and nobody else can end it: XACK and XCLAIM alone ask nobody whose it is. What
happens to a job is told in the stream of the store that it came from.
"""

from __future__ import annotations

# KEYS: jobs, the job's hash, delayed. Each script's ARGV is told above it.
_COMMON = """
local jobs, hash, delayed = KEYS[1], KEYS[2], KEYS[3]

local function now()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

-- How often the entry was delivered, if it is held by `who`; else nil.
local function deliveries(entry, who)
  local found = redis.pcall('XPENDING', jobs, 'agents', entry, entry, 1)
  if found.err or not found[1] or found[1][2] ~= who then return nil end
  return found[1][4]
end

local function of(field) return redis.call('HGET', hash, field) end
local function number(field) return tonumber(of(field) or '0') end

local function tell(what, ...)
  redis.call('XADD', 'rave:happenings:' .. of('origin'), '*', 'job', of('name'), 'what', what,
             'at', now(), 'attempt', of('attempt'), ...)
end

local function drop(entry)
  redis.call('XACK', jobs, 'agents', entry)
  redis.call('XDEL', jobs, entry)
end

local function enqueue()
  local entry = redis.call('XADD', jobs, '*', 'job', of('name'))
  redis.call('HSET', hash, 'state', 'queued', 'entry', entry)
end

-- What nobody comes to hear of is forgotten when its owner forgets it, too.
local function keep() redis.call('EXPIRE', 'rave:happenings:' .. of('origin'), 30 * 86400) end

local function over(ending, exit_status, why, facts)
  redis.call('HSET', hash, 'state', 'over')
  redis.call('HDEL', hash, 'work')
  -- Whoever recorded the end removes it; one that was killed in between does not.
  redis.call('EXPIRE', hash, 30 * 86400)
  tell('ended', 'ending', ending, 'exit', exit_status, 'why', why,
       'failed', of('failed'), 'lost', of('lost'), 'facts', facts or '')
  keep()
end
"""

# Jobs, each as a list in JSON: name, origin, work, attempt, failed, lost, retries, expires, whether
# its owner must be there for it, names of the secrets that it reads. What is there already stays as
# it is.
ENQUEUE = """
local fields = {'name', 'origin', 'work', 'attempt', 'failed', 'lost', 'retries', 'expires',
                'owned', 'secrets'}
for _, text in ipairs(ARGV) do
  local words = cjson.decode(text)
  hash = 'rave:job:' .. words[1]
  if redis.call('EXISTS', hash) == 0 then
    local entry = redis.call('XADD', jobs, '*', 'job', words[1])
    local set = {'state', 'queued', 'entry', entry}
    for number, field in ipairs(fields) do
      set[#set + 1] = field
      set[#set + 1] = words[number]
    end
    redis.call('HSET', hash, unpack(set))
  end
end
"""

# agent, entry, most lost, seconds, names of secrets that the agent lends jobs of any host (* all),
# the store of its own host, seconds. Returns work, attempt, failed, lost, origin; nothing if there
# is nothing to do. What its owner must be there for rests for the first so long if that is away.
# What reads a secret that is not lent here is left to others: it rests for half a second, twice as
# long the next time, and for the second so long at most.
BEGIN = """
local agent, entry = ARGV[1], ARGV[2]

local function lacking()
  local wanted = of('secrets') or ''
  if wanted == '' or ARGV[5] == '*' or of('origin') == ARGV[6] then return '' end
  local lent, found = {}, {}
  for _, name in ipairs(cjson.decode(ARGV[5])) do lent[name] = true end
  for _, name in ipairs(cjson.decode(wanted)) do
    if not lent[name] then found[#found + 1] = name end
  end
  return table.concat(found, ', ')
end

local function rest(seconds, lost)
  local due = string.format('%.6f', tonumber(now()) + seconds)
  redis.call('HSET', hash, 'lost', lost, 'state', 'delayed')
  redis.call('ZADD', delayed, due, of('name'))
  drop(entry)
  return due
end

local times = deliveries(entry, agent)
if not times then return false end
local state = of('state')
if state ~= 'queued' and state ~= 'running' or of('entry') ~= entry then
  drop(entry)
  return false
end
local lost = number('lost') + times - 1
local ended
if of('cancelling') then
  ended = {'cancelled', ''}
elseif lost > tonumber(ARGV[3]) then
  ended = {'error', 'its agent was lost ' .. lost .. ' times'}
elseif number('attempt') == 0 and of('expires') ~= '' and number('expires') < tonumber(now()) then
  ended = {'skipped', 'nobody took it in time'}
end
if ended then
  redis.call('HSET', hash, 'lost', lost)
  over(ended[1], '', ended[2])
  drop(entry)
  return false
end
if of('owned') == '1' and redis.call('EXISTS', 'rave:owner:' .. of('origin')) == 0 then
  rest(tonumber(ARGV[4]), lost)
  return false
end
local lacks = lacking()
if lacks ~= '' then
  local times = redis.call('HINCRBY', hash, 'passed', 1)
  local due = rest(math.min(0.25 * 2 ^ math.min(times, 20), tonumber(ARGV[7])), lost)
  if of('lacking') ~= lacks then
    redis.call('HSET', hash, 'lacking', lacks)
    tell('postponed', 'until', due, 'why', '', 'failed', of('failed'), 'lost', of('lost'),
         'facts', '', 'lacking', lacks)
    keep()
  end
  return false
end
redis.call('HDEL', hash, 'passed', 'lacking')
redis.call('HINCRBY', hash, 'attempt', 1)
redis.call('HSET', hash, 'state', 'running', 'said', 0)
tell('began', 'agent', agent)
keep()
return {of('work'), of('attempt'), of('failed'), tostring(lost), of('origin')}
"""

# agent, entry. Returns 0 if the job is the agent's no more, 2 if it is to be cancelled, else 1.
RENEW = """
if not deliveries(ARGV[2], ARGV[1]) then return 0 end
redis.call('XCLAIM', jobs, 'agents', ARGV[1], 0, ARGV[2], 'JUSTID')
return of('cancelling') and 2 or 1
"""

# agent, entry, attempt, stream, data, number. Returns whether the job is the agent's still. What
# has that number is told once, however often its agent asks because it heard no answer.
SAY = """
if not deliveries(ARGV[2], ARGV[1]) or of('attempt') ~= ARGV[3] then return 0 end
if number('said') >= tonumber(ARGV[6]) then return 1 end
redis.call('HSET', hash, 'said', ARGV[6])
tell('printed', 'stream', ARGV[4], 'data', ARGV[5])
return 1
"""

# agent, entry, attempt, key, data, seconds. Puts a piece of a file there, which is kept for so
# long. Returns whether the job is the agent's still.
HAND_OVER = """
if not deliveries(ARGV[2], ARGV[1]) or of('attempt') ~= ARGV[3] then return 0 end
redis.call('RPUSH', ARGV[4], ARGV[5])
redis.call('EXPIRE', ARGV[4], ARGV[6])
return 1
"""

# origin, who, seconds. Says that the owner of a store is there. Returns whether no other says so.
PRESENT = """
local key = 'rave:owner:' .. ARGV[1]
local there = redis.call('GET', key)
if there and there ~= ARGV[2] then return 0 end
redis.call('SET', key, ARGV[2], 'EX', ARGV[3])
return 1
"""

# agent, entry, attempt, what came of it, exit status, why, delay in seconds, most lost, what the
# agent saw of it. Returns whether the job was the agent's still: what one says that was given up
# for lost changes nothing.
SETTLE = """
local agent, entry, attempt, came, exit_status, why = unpack(ARGV, 1, 6)
local times = deliveries(entry, agent)
if not times or of('attempt') ~= attempt then return 0 end
redis.call('HINCRBY', hash, 'lost', times - 1)
local again = came == 'released'
if came == 'failure' or came == 'timeout' then
  again = redis.call('HINCRBY', hash, 'failed', 1) <= number('retries')
elseif came == 'error' then
  again = redis.call('HINCRBY', hash, 'lost', 1) <= tonumber(ARGV[8])
end
if again and of('cancelling') then
  over('cancelled', '', '', ARGV[9])
elseif not again then
  over(came, exit_status, why, ARGV[9])
else
  local due = string.format('%.6f', tonumber(now()) + tonumber(ARGV[7]))
  redis.call('ZADD', delayed, due, of('name'))
  redis.call('HSET', hash, 'state', 'delayed')
  tell('postponed', 'until', due, 'why', why, 'failed', of('failed'), 'lost', of('lost'),
       'facts', ARGV[9])
end
drop(entry)
return 1
"""

# most. Returns how many jobs whose time has come wait again.
PROMOTE = """
local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now(), 'LIMIT', 0, ARGV[1])
for _, name in ipairs(due) do
  redis.call('ZREM', delayed, name)
  hash = 'rave:job:' .. name
  if of('state') == 'delayed' then enqueue() end
end
return #due
"""

# most. What rests because nobody lent it a secret has rested. Returns how many.
OFFER = """
local found = 0
for _, name in ipairs(redis.call('ZRANGE', delayed, 0, ARGV[1])) do
  if redis.call('HDEL', 'rave:job:' .. name, 'passed') == 1 then
    redis.call('ZADD', delayed, 'XX', 0, name)
    found = found + 1
  end
end
return found
"""

# ending, why. Returns what becomes of the job: `unknown` here, `asked` of its agent, or `over`.
WITHDRAW = """
local state = of('state')
if not state then return 'unknown' end
if state == 'over' then return 'over' end
if state == 'running' then
  if ARGV[1] == 'cancelled' then redis.call('HSET', hash, 'cancelling', 1) end
  return 'asked'
end
if state == 'queued' then drop(of('entry')) end
redis.call('ZREM', delayed, of('name'))
over(ARGV[1], '', ARGV[2])
return 'over'
"""

# agent. Its name is given up, unless it has a job: that would be lost with it.
LEAVE = """
local summary = redis.pcall('XPENDING', jobs, 'agents', '-', '+', 1, ARGV[1])
if summary.err or summary[1] then return 0 end
redis.call('XGROUP', 'DELCONSUMER', jobs, 'agents', ARGV[1])
return 1
"""

# milliseconds. Whoever has a job has not spoken for so long; whoever has none is forgotten.
ABANDON = """
for _, held in ipairs(redis.call('XPENDING', jobs, 'agents', '-', '+', 100000)) do
  redis.call('XCLAIM', jobs, 'agents', 'nobody', 0, held[1], 'IDLE', ARGV[1], 'JUSTID')
end
for _, agent in ipairs(redis.call('XINFO', 'CONSUMERS', jobs, 'agents')) do
  if agent[4] == 0 then redis.call('XGROUP', 'DELCONSUMER', jobs, 'agents', agent[2]) end
end
"""


def whole(script: str) -> str:
    """Return a script with what all have in common."""
    return _COMMON + script
