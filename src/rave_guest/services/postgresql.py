"""PostgreSQL: alive, version, roles and their rights, load, storage, and who is admitted.

One query answers everything about its state.
"""

from __future__ import annotations

import json
import os
import re
import time

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.plan import port
from rave_guest.proof import TIMEOUT, Proof, demand
from rave_guest.questions import Question
from rave_guest.refusal import Refused
from rave_guest.verdict import ABSENT, Verdict, failed, judge, passed, skipped
from rave_guest.wire import postgres

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from rave_guest.system import System

UNITS = ("postgresql.units",)
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


def alive(record: Mapping[str, Any]) -> list[Question]:
    """`select 'alive'` as the superuser over the socket (peer, mapped from root).

    Message formats: PostgreSQL's documentation, "Frontend/Backend Protocol". The query follows the
    start-up packet at once, as peer authentication asks nothing of the client.
    """
    start = postgres.startup("postgres", "postgres", application_name="rave")
    query = postgres.message(b"Q", b"select 'alive'\0")
    goodbye = postgres.message(b"X", b"")
    return [
        Question(
            "select",
            postgres.socket_of(port(record, "postgresql")),
            start + query + goodbye,
            lambda a: b"\0\0\0\5alive" in a,
        )
    ]


def _port(about: Subject) -> dict[str, Any]:
    return {"port": plans.port_of(about.plan, "postgresql", "postgresql")}


@check("postgresql.query", phase="health", title="PostgreSQL answers a query", needs=UNITS,
       timeout=5, retry_for=10, arguments=_port)  # fmt: skip
def query(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Ask for a constant."""
    answer = superuser("select 'alive'", arguments, system)
    return passed("alive") if answer == "alive" else failed(f"it answered {answer[:100]!r}")


@check("postgresql.writable", phase="health", title="PostgreSQL is not in recovery", needs=UNITS,
       timeout=5, retry_for=10, arguments=_port)  # fmt: skip
def writable(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Ask whether it recovers."""
    answer = superuser("select pg_is_in_recovery()", arguments, system)
    return passed("it takes writes") if answer == "f" else failed("it is in recovery")


def superuser(question: str, arguments: Mapping[str, Any], system: System) -> str:
    """Return the answer of a query with one row and one column, asked as the superuser.

    Over the socket where PostgreSQL takes root for its superuser; psql as the account postgres,
    which costs a hundred times as much under emulation, where it does not.

    Raises:
        RuntimeError: psql failed; its own words.
    """
    try:
        return postgres.ask(question, arguments["timeout"], port=arguments["port"])
    except postgres.ServerError as error:
        if not error.code.startswith("28"):
            raise RuntimeError(str(error)) from error
    argv = ["psql", "-XAtq", "-p", str(arguments["port"]), "-d", "postgres"]
    done = system.run(argv, arguments["timeout"], user="postgres", stdin=question)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.rstrip("\n")


def _state(arguments: Mapping[str, Any], system: System) -> Mapping[str, Any]:
    """Return what PostgreSQL says about itself, asked once per batch.

    Raises:
        RuntimeError: the query failed.
    """
    found: Mapping[str, Any] = system.once(
        "postgresql", lambda: json.loads(superuser(SQL, arguments, system))
    )
    return found


@check("postgresql.version", phase="health", title="PostgreSQL: its release is still maintained",
       needs=UNITS, arguments=_port)  # fmt: skip
def version(arguments: Mapping[str, Any], system: System) -> Verdict:
    """A major release that is still maintained."""
    return judge_version(_state(arguments, system)["version"])


def judge_version(number: int) -> Verdict:
    """Read server_version_num: 150009 is 15.9."""
    major, minor = divmod(number, 10000)
    problems = [f"{major}.{minor} is no longer maintained"] if major < OLDEST_MAJOR else []
    return judge(problems, f"{major}.{minor}", version=f"{major}.{minor}")


def _roles(about: Subject) -> dict[str, Any]:
    roles = [{"role": d["role"], "name": d["name"]} for d in about.plan["databases"]]
    return _port(about) | {"roles": roles}


@check("postgresql.roles", phase="health",
       title="PostgreSQL: the catalog's roles exist, with their databases and no power more",
       needs=UNITS, arguments=_roles)  # fmt: skip
def roles(arguments: Mapping[str, Any], system: System) -> Verdict:
    """The catalog's roles are there, own their databases, and can do no more than that."""
    return judge_roles(_state(arguments, system), arguments["roles"])


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


@check("postgresql.connections", phase="health",
       title="PostgreSQL: a fifth of its connections is free", needs=UNITS,
       arguments=_port)  # fmt: skip
def connections(arguments: Mapping[str, Any], system: System) -> Verdict:
    """At least a fifth of the connections is free."""
    found = _state(arguments, system)
    used, most = found["connections"], found["max_connections"]
    problems = [f"{used} of {most} connections in use"] if used > 0.8 * most else []
    return judge(problems, f"{used} of {most} in use", used=used, max=most)


@check("postgresql.activity", phase="health",
       title="PostgreSQL: no query, transaction or lock hangs", needs=UNITS,
       arguments=_port)  # fmt: skip
def activity(arguments: Mapping[str, Any], system: System) -> Verdict:
    """No query, transaction or lock hangs."""
    return judge_activity(_state(arguments, system))


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


@check("postgresql.storage", phase="health", title="PostgreSQL: its disk has room", needs=UNITS,
       arguments=_port)  # fmt: skip
def storage(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Its disk has room."""
    found = _state(arguments, system)
    disk = os.statvfs(found["data_directory"])
    sizes = {name: entry["bytes"] for name, entry in (found["databases"] or {}).items()}
    return judge_storage(disk.f_bavail / max(disk.f_blocks, 1), sizes)


def judge_storage(free: float, sizes: Mapping[str, int]) -> Verdict:
    """Read the free share of the file system (0 to 1) and each database's bytes."""
    problems = [f"only {free:.0%} of the file system is free"] if free < 0.1 else []
    total = sum(sizes.values()) / 2**20
    return judge(problems, f"{total:.0f} MiB of data, {free:.0%} of the disk free", bytes=sizes)


def _logins(about: Subject) -> dict[str, Any]:
    roles = [
        {"role": d["role"], "name": d["name"], "path": plans.secret(about.plan, d["secret"])}
        for d in about.plan["databases"]
    ]
    return _port(about) | {"roles": roles}


@check("secrets.postgresql", phase="secrets", title="PostgreSQL admits the new passwords only",
       needs=UNITS, arguments=_logins)  # fmt: skip
def login(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Each role is admitted with its password, and with no other."""
    problems = []
    for entry in arguments["roles"]:
        password = system.secret(entry["path"])
        if password is None:
            return skipped(ABSENT)
        found = _login_problems(entry, password, None, arguments["port"], arguments["timeout"])
        problems += [f"{entry['role']}: {problem}" for problem in found]
    return judge(problems, f"{len(arguments['roles'])} roles admitted with their password only")


def proofs(plan: Mapping[str, Any], secret: str) -> Iterator[Proof]:
    """The roles whose password it is are admitted with it, and not with the previous one."""
    port = plans.port_of(plan, "postgresql", "postgresql")
    for entry in plan["databases"]:
        if entry["secret"] == secret:
            yield Proof(f"postgresql:{entry['role']}", secret, _asking(entry, port))


def _asking(entry: Mapping[str, Any], port: int) -> Any:
    def ask(value: str, old: str | None) -> list[str]:
        demand(_login_problems(entry, value, old, port, TIMEOUT))
        return ["previous" if old else "wrong"]

    return ask


def _login_problems(
    entry: Mapping[str, Any], password: str, wrong: str | None, port: int, timeout: float
) -> list[str]:
    """Return what is wrong: the role's password is refused, or another one, or a guess if there is
    no other, is not.
    """
    # Its hashes are not needed by whoever only asks whether PostgreSQL lives.
    from rave_guest.wire import scram

    role, database = entry["role"], entry["name"] or "postgres"
    problems = []
    try:
        scram.log_in(role, database, password, timeout, port)
    except postgres.ServerError as error:
        problems.append(f"refuses the installed password: {error.code} {error}")
    try:
        scram.log_in(role, database, wrong, timeout, port)
        problems.append("admits another password")
    except postgres.ServerError as error:
        if error.code not in postgres.LOGIN_REFUSED:
            problems.append(f"answers another password with {error.code} {error}")
    return problems


# What the server makes anew when it starts, or must not find (PostgreSQL's documentation, "Making a
# Base Backup Using the Low Level API"); the log comes after the copy.
LEFT_OUT = re.compile(
    r"postmaster\.(pid|opts)|pg_(wal|replslot|dynshmem|notify|serial|snapshots|stat_tmp|subtrans)/.*"
    r"|(.*/)?(pgsql_tmp.*|pg_internal\.init.*)|backup_label.*|global/pg_control"
)
MARKS = 60.0  # seconds for a mark
LASTS = 600.0  # seconds for the checkpoint at which a copy begins


def keep(plan: Mapping[str, Any], path: str, _folder: str) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The whole cluster as of the moment at which copying it ends, with the log up to there: all
    databases of one moment, with roles and their passwords. The server goes on meanwhile.

    Raises:
        Refused: the server does not let itself be copied.
    """
    try:
        yield from _copy(path, plans.port_of(plan, "postgresql", "postgresql"))
    except (postgres.ServerError, ValueError) as error:
        raise Refused("provider", f"PostgreSQL: {error}") from error


def _copy(path: str, port: int) -> Iterator[tuple[str, Iterable[bytes]]]:
    from rave_guest.state import files

    entries: list[Any] = []
    end = "select json_build_array(pg_walfile_name(lsn), labelfile) from pg_backup_stop(false)"
    with postgres.session(LASTS, port=port) as ask:
        # As long as this session lasts the log stays.
        ask("select pg_create_physical_replication_slot('rave_backup', true, true)")
        first = ask("select pg_walfile_name(pg_backup_start('rave', true))")

        def copied() -> Iterator[bytes]:
            yield from files.read(path, lambda name: bool(LEFT_OUT.fullmatch(name)), entries)
            # Last, as of the youngest moment.
            yield from files.file(f"{path}/global/pg_control", "global/pg_control", entries)
            stop, label = json.loads(ask(end))
            for name in sorted(os.listdir(f"{path}/pg_wal")):
                if first <= name <= stop or name.endswith(".history"):
                    yield from files.file(f"{path}/pg_wal/{name}", f"pg_wal/{name}", entries)
            entries.append(("backup_label", 0o600, len(label.encode())))
            yield label.encode()

        yield files.BYTES, copied()
    yield files.LIST, [json.dumps(entries).encode()]


def put(folder: str, target: str, ours: str) -> None:
    """Lay the cluster there; it recovers to the moment of the copy when it starts, or to the time
    that is told with the log behind that.

    Raises:
        Refused: it is of another major release than the server's; or the log does not fit to it.
    """
    from rave_guest.state import files, log

    files.put(folder, target)
    versions = []
    for place in (target, ours):
        with open(f"{place}/PG_VERSION", encoding="ascii") as stream:
            versions.append(stream.read().strip())
    if len(set(versions)) > 1:
        raise Refused(
            "input",
            "the backup is of PostgreSQL {}, here is {}: a machine of an image of then takes it,"
            " and rave vm update brings that here".format(*versions),
        )
    if recovers(folder):
        log.lay(folder, target)


def recovers(folder: str) -> bool:
    """Whether what came goes on to a time with the log behind it."""
    from rave_guest.state import log

    return os.path.exists(f"{folder}/{log.FACTS}")


def settle(plan: Mapping[str, Any], path: str, seconds: float) -> None:
    """Wait until it has recovered to its time and takes writes; what only that needed goes then.

    Raises:
        Refused: it does not get there.
    """
    from rave_guest.state import log

    port, until = plans.port_of(plan, "postgresql", "postgresql"), time.monotonic() + seconds
    while True:
        try:
            if postgres.ask("select pg_is_in_recovery()", MARKS, port=port) == "f":
                break
            why = "it still recovers"
        except (OSError, postgres.ServerError, ValueError) as error:
            why = str(error)
        if time.monotonic() > until:
            raise Refused("services", f"PostgreSQL does not get to the time that is asked: {why}")
        time.sleep(0.2)
    log.settled(path)


def marks(plan: Mapping[str, Any], _path: str, lines: list[str] | None) -> list[str]:
    """Rave's own table in the database of the superuser (state/marks.py).

    Raises:
        Refused: the server does not do it.
    """
    port = plans.port_of(plan, "postgresql", "postgresql")
    try:
        with postgres.session(MARKS, port=port) as ask:
            if lines is not None:
                ask("drop table if exists rave_recovery; select 'done'")
            if lines:
                # They are of digits and dashes alone.
                listed = ",".join(lines)
                ask(
                    "create table rave_recovery (line text primary key); insert into rave_recovery"
                    f" select unnest(string_to_array('{listed}', ',')); select 'done'"
                )
            there = ask("select to_regclass('rave_recovery') is not null") == "t"
            listing = "select coalesce(string_agg(line, ','), '') from rave_recovery"
            found = ask(listing) if there else ""
    except (OSError, postgres.ServerError, ValueError) as error:
        raise Refused("provider", f"PostgreSQL: {error}") from error
    return [line for line in found.split(",") if line]
