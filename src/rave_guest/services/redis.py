"""Redis: alive, its own view of itself, a round trip, and who is admitted."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.plan import port
from rave_guest.proof import TIMEOUT, WRONG, Proof, call, demand
from rave_guest.questions import Question
from rave_guest.refusal import Refused
from rave_guest.state.pieces import pieces_of
from rave_guest.verdict import ABSENT, Verdict, failed, judge, missing, passed, skipped
from rave_guest.wire.redis import Redis, RedisError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from rave_guest.system import System

UNITS = ("redis.units",)
SAVES = 120.0  # seconds for a snapshot
MARKS = "rave:recovery"
# Writes its account from the secrets in force, as it does before each start.
RENDERS = "/usr/lib/rave/redis-auth"
SECRET = "redis/password"  # noqa: S105 - a name, not a value


def alive(record: Mapping[str, Any]) -> list[Question]:
    """PING; being asked for a password is an answer too."""
    answers = (b"+PONG", b"-NOAUTH")
    address = ("127.0.0.1", port(record, "redis"))
    return [Question("PING", address, b"PING\r\nQUIT\r\n", lambda a: a.startswith(answers))]


def _arguments(about: Subject) -> dict[str, Any]:
    return {
        "secret": plans.secret(about.plan, SECRET),
        "port": plans.port_of(about.plan, "redis", "redis"),
    }


@check("redis.ping", phase="health", title="Redis answers PING", needs=UNITS, timeout=5,
       retry_for=10, arguments=_arguments)  # fmt: skip
def ping(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Log in and ask PING."""
    password = system.secret(arguments["secret"])
    if password is None:
        return missing(arguments["secret"])
    with Redis(arguments["timeout"], arguments["port"]) as redis:
        redis.ask("AUTH", password)
        answer = redis.ask("PING")
    return passed("PONG") if answer == "PONG" else failed(f"PING is answered by {answer!r}")


@check("redis.state", phase="health", title="Redis: memory within its limit, snapshots succeed",
       needs=UNITS, arguments=_arguments)  # fmt: skip
def state(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Redis' own view: memory within its limit, snapshots succeed."""
    password = system.secret(arguments["secret"])
    with Redis(arguments["timeout"], arguments["port"]) as redis:
        if password is not None:
            redis.ask("AUTH", password)
        try:
            text = redis.ask("INFO")
        except RedisError as error:
            return failed(f"INFO is refused: {error}")
    return judge_redis(redis_info(text.decode() if isinstance(text, bytes) else ""))


def redis_info(text: str) -> dict[str, str]:
    """Read the reply of INFO."""
    lines = (line.strip() for line in text.splitlines())
    return dict(
        line.partition(":")[::2] for line in lines if ":" in line and not line.startswith("#")
    )


def judge_redis(info: Mapping[str, str]) -> Verdict:
    """Read INFO."""
    problems = []
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not info.get("redis_version"):
        problems.append("INFO names no version")
    if most == 0:
        problems.append("no maxmemory is set")
    elif used > most:
        problems.append(f"{used} bytes used of {most}")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        problems.append("the last snapshot failed")
    if info.get("role", "master") != "master":
        problems.append(f"its role is {info['role']}")
    mib = used / 2**20
    return judge(
        problems, f"version {info.get('redis_version')}, {mib:.1f} MiB used", used_bytes=used
    )


@check("redis.roundtrip", phase="health", title="Redis: writes, reads and deletes a key",
       needs=UNITS, arguments=_arguments)  # fmt: skip
def roundtrip(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Write, read and delete a key with the installed password."""
    password = system.secret(arguments["secret"])
    if password is None:
        return missing(arguments["secret"])
    key, value = f"rave:probe:{os.urandom(6).hex()}", os.urandom(16).hex().encode()
    with Redis(arguments["timeout"], arguments["port"]) as redis:
        redis.ask("AUTH", password)
        redis.ask("SET", key, value, "EX", "30")
        came_back = redis.ask("GET", key)
        redis.ask("DEL", key)
    return passed("written, read, deleted") if came_back == value else failed("read another value")


@check("secrets.redis", phase="secrets", title="Redis admits the new password only", needs=UNITS,
       arguments=_arguments)  # fmt: skip
def login(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Redis reads and writes with the password, and refuses without it and with a wrong one."""
    port, timeout = arguments["port"], arguments["timeout"]
    password = system.secret(arguments["secret"])
    problems = _admitted(port, WRONG, timeout)
    if password is None:
        return failed("; ".join(problems)) if problems else skipped(ABSENT)
    problems += _refused(port, password, timeout)
    return judge(problems, "admits the installed password only")


def proofs(plan: Mapping[str, Any], secret: str) -> Iterator[Proof]:
    """The new password is admitted; the previous one, and a client without any, are not."""
    port = plans.port_of(plan, "redis", "redis")

    def ask(value: str, old: str | None) -> list[str]:
        demand(_admitted(port, old or WRONG, TIMEOUT) + _refused(port, value, TIMEOUT))
        return ["none", "previous" if old else "wrong"]

    yield Proof("redis", secret, ask)


def renew(plan: Mapping[str, Any], _secret: str, value: str, old: str) -> Callable[[], None]:
    """Take the new password beside the old one: an account may have several (redis.io, "ACL
    SETUSER").

    Raises:
        Refused: it does not take it, or its account cannot be written for the next start.
    """
    port = plans.port_of(plan, "redis", "redis")

    def tell(password: str, rule: str) -> None:
        try:
            with Redis(TIMEOUT, port) as redis:
                redis.ask("AUTH", password)
                redis.ask("ACL", "SETUSER", "default", rule)
        except RedisError as error:
            raise Refused("refresh", f"Redis does not change its account: {error}") from error

    tell(old, f"#{_sum(value)}")
    call(RENDERS)
    return lambda: tell(value, f"!{_sum(old)}")


def _sum(password: str) -> str:
    from hashlib import sha256

    return sha256(password.encode()).hexdigest()


def _admitted(port: int, wrong: str, timeout: float) -> list[str]:
    """Return who is admitted and must not be: a client without a password, or with `wrong`."""
    problems = []
    tries = {"no password": ("GET", "rave:probe"), "another password": ("AUTH", wrong)}
    for name, attempt in tries.items():
        with Redis(timeout, port) as redis:
            try:
                redis.ask(*attempt)
            except RedisError:
                continue
        problems.append(f"admits a client with {name}")
    return problems


def _refused(port: int, password: str, timeout: float) -> list[str]:
    """Return that the password is refused, if it is."""
    with Redis(timeout, port) as redis:
        try:
            redis.ask("AUTH", password)
            redis.ask("PING")
        except RedisError as error:
            return [f"refuses the installed password: {error}"]
    return []


def keep(plan: Mapping[str, Any], path: str, _folder: str) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The snapshot that it writes of one moment, while it goes on (BGSAVE).

    Raises:
        Refused: it does not.
    """
    with _ours(plan) as redis:
        _save(redis)
    yield "dump.rdb", pieces_of(f"{path}/dump.rdb")


def _save(redis: Redis) -> None:
    """Let it write a snapshot of now, after one that may be under way.

    Raises:
        RedisError: it could not.
    """
    until = time.monotonic() + SAVES
    _await_saved(redis, until)
    redis.ask("BGSAVE")
    if _await_saved(redis, until).get("rdb_last_bgsave_status") != "ok":
        raise RedisError("its snapshot failed")


def _await_saved(redis: Redis, until: float) -> dict[str, str]:
    while True:
        text = redis.ask("INFO", "persistence")
        info = redis_info(text.decode() if isinstance(text, bytes) else "")
        busy = {info.get("rdb_bgsave_in_progress"), info.get("aof_rewrite_in_progress")}
        if busy == {"0"}:
            return info
        if time.monotonic() > until:
            raise RedisError(f"its snapshot takes longer than {SAVES:g} s")
        time.sleep(0.05)


def put(folder: str, target: str, _ours: str) -> None:
    """Lay the snapshot where it looks: with `appendonly` it reads its log alone, whose base may be
    a snapshot (redis.io, "Redis persistence").
    """
    log = f"{target}/appendonlydir"
    os.mkdir(log, 0o755)
    os.rename(f"{folder}/dump.rdb", f"{log}/appendonly.aof.1.base.rdb")
    with open(f"{log}/appendonly.aof.manifest", "w", encoding="utf-8") as stream:
        stream.write("file appendonly.aof.1.base.rdb seq 1 type b\n")


def marks(plan: Mapping[str, Any], _path: str, lines: list[str] | None) -> list[str]:
    """A list of rave's own (state/marks.py).

    Raises:
        Refused: Redis does not do it.
    """
    with _ours(plan) as redis:
        if lines is not None:
            redis.ask("DEL", MARKS)
        if lines:
            redis.ask("RPUSH", MARKS, *lines)
        found = redis.ask("LRANGE", MARKS, "0", "-1")
    return (
        [one.decode() for one in found if isinstance(one, bytes)] if isinstance(found, list) else []
    )


@contextmanager
def _ours(plan: Mapping[str, Any]) -> Iterator[Redis]:
    """Log in as this machine.

    Raises:
        Refused: it lets nobody in, or does not do what it is asked.
    """
    try:
        with open(plans.secret(plan, SECRET), encoding="utf-8") as stream:
            password = stream.read().rstrip("\n")
    except OSError as error:
        raise Refused("secrets", "Redis lets nobody in as long as there are no secrets") from error
    try:
        with Redis(SAVES, plans.port_of(plan, "redis", "redis")) as redis:
            redis.ask("AUTH", password)
            yield redis
    except (OSError, RedisError, ValueError) as error:
        raise Refused("provider", f"Redis: {error}") from error
