"""PostgreSQL from within: version, roles and their rights, connections, activity, storage.

One query answers everything.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

from rave_guest.system import run
from rave_guest.verdict import Verdict, judge
from rave_guest.wire import postgres

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_guest.system import System

# Oldest major release that the PostgreSQL project still maintained at the end of 2026.
OLDEST_MAJOR = 14
LONGEST_QUERY, LONGEST_IDLE_TRANSACTION = 60, 60

SQL = """
select json_build_object(
  'version', current_setting('server_version_num')::int,
  'data_directory', current_setting('data_directory'),
  'max_connections', current_setting('max_connections')::int,
  'password_encryption', current_setting('password_encryption'),
  'connections', (select count(*) from pg_stat_activity where backend_type = 'client backend'),
  'longest_query', (select coalesce(max(extract(epoch from clock_timestamp() - query_start)), 0)
     from pg_stat_activity
     where state = 'active' and backend_type = 'client backend' and pid <> pg_backend_pid()),
  'longest_idle', (select coalesce(max(extract(epoch from clock_timestamp() - state_change)), 0)
     from pg_stat_activity where state like 'idle in transaction%'),
  'waiting', (select count(*) from pg_locks where not granted),
  'databases', (select json_object_agg(datname, json_build_object(
       'owner', pg_get_userbyid(datdba), 'bytes', pg_database_size(oid)))
     from pg_database where not datistemplate),
  'roles', (select json_object_agg(rolname, json_build_object(
       'login', rolcanlogin, 'password', left(coalesce(rolpassword, ''), 14),
       'powers', array_remove(array[
          case when rolsuper then 'superuser' end, case when rolcreaterole then 'createrole' end,
          case when rolcreatedb then 'createdb' end, case when rolbypassrls then 'bypassrls' end,
          case when rolreplication then 'replication' end], null)))
     from pg_authid where rolname not like 'pg\\_%'));
"""

_lock = threading.Lock()
_known: dict[str, Any] = {}


def superuser(query: str, timeout: float) -> str:
    """Return the answer of a query with one row and one column, asked as the superuser.

    Over the socket where PostgreSQL takes root for its superuser; psql as the account postgres,
    which costs a hundred times as much under emulation, where it does not.

    Raises:
        RuntimeError: psql failed; its own words.
    """
    try:
        return postgres.ask(query, timeout)
    except postgres.Refused as error:
        if not error.code.startswith("28"):
            raise RuntimeError(str(error)) from error
    done = run(["psql", "-XAtq", "-d", "postgres"], timeout, user="postgres", stdin=query)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.rstrip("\n")


def ask_postgresql(timeout: float) -> dict[str, Any]:
    """Return what PostgreSQL says about itself, asked once per probe.

    Raises:
        RuntimeError: the query failed.
    """
    with _lock:
        if not _known:
            _known.update(json.loads(superuser(SQL, timeout)))
        return _known


def postgresql_version(ask: Mapping[str, Any], _system: System) -> Verdict:
    """A major release that is still maintained."""
    return judge_version(ask_postgresql(ask["timeout"])["version"])


def judge_version(number: int) -> Verdict:
    """Read server_version_num: 150009 is 15.9."""
    major, minor = divmod(number, 10000)
    problems = [f"{major}.{minor} is no longer maintained"] if major < OLDEST_MAJOR else []
    return judge(problems, f"{major}.{minor}", version=f"{major}.{minor}")


def postgresql_roles(ask: Mapping[str, Any], _system: System) -> Verdict:
    """The catalog's roles are there, own their databases, and can do no more than that."""
    return judge_roles(ask_postgresql(ask["timeout"]), ask["roles"])


def judge_roles(found: Mapping[str, Any], expected: list[dict[str, Any]]) -> Verdict:
    """Compare roles and databases with the catalog; only postgres itself may be powerful."""
    problems = []
    roles, databases = found["roles"], found["databases"] or {}
    for entry in expected:
        role, name = entry["role"], entry["name"]
        if role not in roles:
            problems.append(f"role {role} is missing")
        elif not roles[role]["login"]:
            problems.append(f"role {role} may not log in")
        if name and databases.get(name, {}).get("owner") != role:
            problems.append(f"database {name} does not belong to {role}")
    for role, entry in sorted(roles.items()):
        if role != "postgres" and entry["powers"]:
            problems.append(f"role {role} has {', '.join(entry['powers'])}")
        if entry["password"] and not entry["password"].startswith("SCRAM-SHA-256$"):
            problems.append(f"role {role} has a password that is not SCRAM-SHA-256")
    return judge(problems, f"{len(expected)} roles with exactly their rights", roles=sorted(roles))


def postgresql_connections(ask: Mapping[str, Any], _system: System) -> Verdict:
    """At least a fifth of the connections is free."""
    found = ask_postgresql(ask["timeout"])
    used, most = found["connections"], found["max_connections"]
    problems = [f"{used} of {most} connections in use"] if used > 0.8 * most else []
    return judge(problems, f"{used} of {most} in use", used=used, max=most)


def postgresql_activity(ask: Mapping[str, Any], _system: System) -> Verdict:
    """No query, transaction or lock hangs."""
    return judge_activity(ask_postgresql(ask["timeout"]))


def judge_activity(found: Mapping[str, Any]) -> Verdict:
    """Read the ages (seconds) of the oldest query and idle transaction, and the waiting locks."""
    problems = []
    if found["longest_query"] > LONGEST_QUERY:
        problems.append(f"a query runs for {found['longest_query']:.0f} s")
    if found["longest_idle"] > LONGEST_IDLE_TRANSACTION:
        problems.append(f"a transaction is idle for {found['longest_idle']:.0f} s")
    if found["waiting"]:
        problems.append(f"{found['waiting']} locks are waited for")
    return judge(problems, "nothing hangs")


def postgresql_storage(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Its disk has room."""
    found = ask_postgresql(ask["timeout"])
    disk = os.statvfs(found["data_directory"])
    sizes = {name: entry["bytes"] for name, entry in (found["databases"] or {}).items()}
    return judge_storage(disk.f_bavail / max(disk.f_blocks, 1), sizes)


def judge_storage(free: float, sizes: Mapping[str, int]) -> Verdict:
    """Read the free share of the file system (0 to 1) and each database's bytes."""
    problems = [f"only {free:.0%} of the file system is free"] if free < 0.1 else []
    total = sum(sizes.values()) / 2**20
    return judge(problems, f"{total:.0f} MiB of data, {free:.0%} of the disk free", bytes=sizes)
