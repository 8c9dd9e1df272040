"""Redis and NATS JetStream: their state, and a real round trip through each."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from rave_guest import facts
from rave_guest.verdict import Verdict, failed, judge, passed, skipped
from rave_guest.wire import http
from rave_guest.wire.nats import Nats
from rave_guest.wire.redis import Redis, RedisError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_guest.system import System

MISSING = "needs the secret {}, which is not installed"


def redis_state(ask: Mapping[str, Any], system: System) -> Verdict:
    """Redis' own view: memory within its limit, snapshots succeed."""
    password = system.secret(ask["secret"])
    with Redis(ask["timeout"]) as redis:
        if password is not None:
            redis.ask("AUTH", password)
        try:
            text = redis.ask("INFO")
        except RedisError as error:
            return failed(f"INFO is refused: {error}")
    return judge_redis(facts.redis_info(text.decode() if isinstance(text, bytes) else ""))


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


def redis_roundtrip(ask: Mapping[str, Any], system: System) -> Verdict:
    """Write, read and delete a key with the installed password."""
    password = system.secret(ask["secret"])
    if password is None:
        return skipped(MISSING.format(ask["secret"]))
    key, value = f"rave:probe:{os.urandom(6).hex()}", os.urandom(16).hex().encode()
    with Redis(ask["timeout"]) as redis:
        redis.ask("AUTH", password)
        redis.ask("SET", key, value, "EX", "30")
        came_back = redis.ask("GET", key)
        redis.ask("DEL", key)
    return passed("written, read, deleted") if came_back == value else failed("read another value")


def nats_state(ask: Mapping[str, Any], _system: System) -> Verdict:
    """The server's own view: JetStream on, nobody slow."""
    variables = http.get("http://127.0.0.1:8222/varz", ask["timeout"])
    stream = http.get("http://127.0.0.1:8222/jsz", ask["timeout"])
    return judge_nats(json.loads(variables.body), json.loads(stream.body))


def judge_nats(variables: Mapping[str, Any], stream: Mapping[str, Any]) -> Verdict:
    """Read /varz and /jsz."""
    problems = []
    if stream.get("disabled"):
        problems.append("JetStream is off")
    if variables.get("slow_consumers", 0):
        problems.append(f"{variables['slow_consumers']} slow consumers")
    if not variables.get("auth_required"):
        problems.append("it does not ask for a password")
    version = variables.get("version", "?")
    return judge(problems, f"version {version}, JetStream with {stream.get('streams', 0)} streams")


def nats_roundtrip(ask: Mapping[str, Any], system: System) -> Verdict:
    """Create a stream, publish, read the message back, delete the stream: with the password."""
    password = system.secret(ask["secret"])
    if password is None:
        return skipped(MISSING.format(ask["secret"]))
    token = os.urandom(6).hex()
    name, subject, body = f"rave-probe-{token}", f"rave.probe.{token}", os.urandom(16).hex()
    with Nats(ask["timeout"], user=ask["user"], password=password) as nats:
        stream = {"name": name, "subjects": [subject], "storage": "memory", "max_age": 30 * 10**9}
        nats.jetstream(f"STREAM.CREATE.{name}", stream)
        try:
            acknowledged = json.loads(nats.request(subject, body.encode()))
            stored = nats.jetstream(f"STREAM.MSG.GET.{name}", {"seq": acknowledged["seq"]})
        finally:
            nats.jetstream(f"STREAM.DELETE.{name}")
    return judge_stored(stored, body)


def judge_stored(stored: Mapping[str, Any], body: str) -> Verdict:
    """Read JetStream's answer to STREAM.MSG.GET; its data is base64."""
    import base64

    data = base64.b64decode(stored["message"]["data"])
    if data != body.encode():
        return failed("the stream holds another message")
    return passed("published, stored, read back, deleted")
