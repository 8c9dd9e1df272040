"""The pool: jobs, each in a fresh machine, none lost, and no machine where there is no job.

jobs     what is asked for, a job as a value, the one rule of what becomes of it; every job that was
         accepted, in SQLite: the source of truth
files    what jobs are given, and what they leave
queue    who has which job now: Redis Streams and a redis-server, and nothing that could not be made
         anew
proof    the signed statement with which a job ends, and its verification
served   what whoever serves says of itself
agents   take one job at a time and see it through, each in a machine started from a template
serving  turns all of that until a signal ends it: a dispatcher, agents, the server between them
asking   why a job waits, what it prints and what becomes of it, whether any runs
watching alert rules and a dashboard, for whoever watches it from outside
trial    a pool that is measured, and killed at every step, of which nothing is left
"""
