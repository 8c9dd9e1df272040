"""The pool: jobs, each in a fresh machine, none lost, and no machine where there is no job.

jobs        a job as a value, and the one rule of what becomes of it
jobstore    the source of truth: every job that was accepted, in SQLite
scripts     the steps of the queue that must happen whole, in Lua
queue       who has which job now: Redis Streams, and nothing that could not be made anew
broker      the redis-server behind that
dispatcher  carries between the two: jobs into the queue, what happened to them into the store
agents      take one job at a time and see it through
crew        the agents that work side by side, and what holds them up
inputs      what jobs are given
artifacts   what they leave
handover    what a job gets in its machine before its command begins
masking     takes secrets out of its output
proof       the signed statement with which a job ends, and its verification
metrics     what it does, as figures for Prometheus
sandbox     what an agent runs a job in: a machine that was started from a template
serving     all of that, until a signal ends it
served      what whoever serves says of itself
explaining  why a job waits
following   what a job prints and what becomes of it
trial       a pool that is measured, of which nothing is left
crashes     kills whatever there is at every step, and counts what came of it
rates       how much it takes in and passes on
draining    waits until no job runs any more
"""
