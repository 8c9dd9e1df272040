"""The verdicts of the probe: what was found in, pass or fail out. One line per way to be wrong."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from rave_guest import facts
from rave_guest.checks import catalog, network
from rave_guest.services import nats, nginx, postgresql, prometheus, redis
from rave_guest.wire.http import Response

ANY = "0.0.0.0"  # noqa: S104 - what a socket open to everybody shows


def unit(**more: str) -> dict[str, str]:
    return {
        "LoadState": "loaded", "ActiveState": "active", "SubState": "running",
        "Result": "success", "ActiveEnterTimestampMonotonic": "9400000", **more,
    }  # fmt: skip


# --- health ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Response(200, b"rave", None, None), None),
        (Response(200, b"rave", b"cert", "TLSv1.3"), None),
        (Response(503, b"rave", None, None), "status 503 instead of 200"),
        (Response(200, b"nothing", None, None), "does not contain 'rave'"),
        (Response(200, b"rave", b"other", "TLSv1.3"), "another certificate"),
    ],
)
def test_http(answer: Response, problem: str | None) -> None:
    verdict = catalog.judge_http(answer, 200, "rave", b"cert")
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "200") in verdict.detail


def test_a_command_passes_by_its_output_alone() -> None:
    assert catalog.judge_output(0, "x\nalive\n", "", "^alive$").status == "pass"
    assert catalog.judge_output(2, "", "psql: no\n", "^alive$").detail == "exit 2: psql: no"
    assert catalog.judge_output(0, "", "", "^alive$").detail == "exit 0: no output"


def target(port: int, health: str) -> dict[str, Any]:
    instance = f"127.0.0.1:{port}"
    return {
        "labels": {"instance": instance}, "health": health, "scrapeUrl": f"http://{instance}/m",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("active", "problem"),
    [
        ([target(9100, "up"), target(9187, "up")], None),
        ([target(9100, "up"), target(9187, "down")], "9187 is down"),
        ([target(9100, "up")], "no target on port 9187"),
        ([target(9100, "up"), target(9187, "unknown")], None),
        ([target(9100, "unknown"), target(9187, "up")], "9100 is down"),
        ([], "has no target"),
    ],
)
def test_prometheus_targets(active: list[Any], problem: str | None) -> None:
    """One that is yet to be asked for the first time is asked here; 9100 does not answer."""
    document = {"data": {"activeTargets": active}}
    verdict = prometheus.judge_targets(document, [9100, 9187], lambda url: "9187" in url)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "2 targets up") in verdict.detail


@pytest.mark.parametrize(
    ("found", "status", "detail"),
    [
        ({"a.service": unit()}, "pass", "a.service active since 9.4 s"),
        ({"a.service": unit(SubState="exited")}, "pass", "active"),
        ({"a.service": unit(ActiveState="failed", SubState="failed", Result="oom-kill")}, "fail",
         "a.service is failed (failed, oom-kill)"),
        ({"a.service": unit(ActiveState="activating")}, "fail", "is activating"),
        ({"a.service": unit(LoadState="not-found")}, "fail", "is not-found"),
        ({"a.service": {}}, "fail", "is not-found"),
        ({}, "skip", "without a unit"),
    ],
)  # fmt: skip
def test_units(found: dict[str, dict[str, str]], status: str, detail: str) -> None:
    verdict = catalog.judge_units(found)
    assert verdict.status == status
    assert detail in verdict.detail


def test_the_status_document_speaks_of_this_machine() -> None:
    good = {"instance": "i", "services": {"a": {"state": "healthy"}}}
    assert nginx.judge_status(good, "i").status == "pass"
    assert "another machine" in nginx.judge_status(good, "j").detail
    ill = {"instance": "i", "services": {"a": {"state": "failed"}}}
    assert "a is failed" in nginx.judge_status(ill, "i").detail
    assert "names no service" in nginx.judge_status({"instance": "i"}, "i").detail


# --- PostgreSQL -----------------------------------------------------------------------------------


def test_a_release_that_nobody_maintains_fails() -> None:
    assert postgresql.judge_version(150009).detail == "15.9"
    assert postgresql.judge_version(110022).status == "fail"


def role(**more: Any) -> dict[str, Any]:
    return {"login": True, "password": "SCRAM-SHA-256$", "powers": [], **more}


@pytest.mark.parametrize(
    ("roles", "owner", "problem"),
    [
        ({"grafana": role()}, "grafana", None),
        ({"grafana": role(password="")}, "grafana", None),
        ({}, "grafana", "role grafana is missing"),
        ({"grafana": role(login=False)}, "grafana", "may not log in"),
        ({"grafana": role()}, "postgres", "does not belong to grafana"),
        ({"grafana": role(powers=["superuser", "createdb"])}, "grafana", "has superuser, createdb"),
        ({"grafana": role(password="md5abcdefghijk")}, "grafana", "not SCRAM-SHA-256"),
        ({"grafana": role(), "eve": role(powers=["createrole"])}, "grafana", "eve has createrole"),
    ],
)
def test_roles_have_their_rights_and_no_more(
    roles: dict[str, Any], owner: str, problem: str | None
) -> None:
    found = {
        "roles": {"postgres": role(powers=["superuser"]), **roles},
        "databases": {"grafana": {"owner": owner}},
    }
    verdict = postgresql.judge_roles(found, [{"role": "grafana", "name": "grafana"}])
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "exactly their rights") in verdict.detail


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({"longest_query": 1, "longest_idle": 0, "waiting": 0}, None),
        ({"longest_query": 90, "longest_idle": 0, "waiting": 0}, "a query runs for 90 s"),
        ({"longest_query": 0, "longest_idle": 61, "waiting": 0}, "idle for 61 s"),
        ({"longest_query": 0, "longest_idle": 0, "waiting": 2}, "2 locks"),
    ],
)
def test_activity(found: dict[str, float], problem: str | None) -> None:
    verdict = postgresql.judge_activity(found)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "nothing hangs") in verdict.detail


def test_storage() -> None:
    assert postgresql.judge_storage(0.5, {"a": 2**20}).status == "pass"
    assert "only 5%" in postgresql.judge_storage(0.05, {}).detail


# --- Redis, NATS, Prometheus ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({}, None),
        ({"maxmemory": "0"}, "no maxmemory"),
        ({"used_memory": "2000"}, "2000 bytes used of 1000"),
        ({"rdb_last_bgsave_status": "err"}, "snapshot failed"),
        ({"role": "slave"}, "role is slave"),
        ({"redis_version": ""}, "names no version"),
    ],
)
def test_redis_state(more: dict[str, str], problem: str | None) -> None:
    info = {"redis_version": "7.0.15", "used_memory": "100", "maxmemory": "1000", **more}
    verdict = redis.judge_redis(info)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "7.0.15") in verdict.detail


@pytest.mark.parametrize(
    ("variables", "stream", "problem"),
    [
        ({"auth_required": True, "version": "2.9"}, {"streams": 0}, None),
        ({"auth_required": True}, {"disabled": True}, "JetStream is off"),
        ({"auth_required": True, "slow_consumers": 1}, {}, "1 slow"),
        ({}, {}, "does not ask for a password"),
    ],
)
def test_nats_state(variables: dict[str, Any], stream: dict[str, Any], problem: str | None) -> None:
    verdict = nats.judge_nats(variables, stream)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "version 2.9") in verdict.detail


def test_a_stream_must_return_what_was_published() -> None:
    def stored(text: str) -> dict[str, Any]:
        return {"message": {"data": base64.b64encode(text.encode()).decode()}}

    assert nats.judge_stored(stored("x"), "x").status == "pass"
    assert nats.judge_stored(stored("y"), "x").status == "fail"


def rules(*found: dict[str, str]) -> dict[str, Any]:
    return {"data": {"groups": [{"rules": list(found)}]}}


@pytest.mark.parametrize(
    ("document", "status"),
    [
        (rules({"name": "a", "health": "ok", "state": "inactive"}), "pass"),
        (rules({"name": "a", "health": "ok", "state": "firing"}), "warn"),
        (rules({"name": "a", "health": "err"}), "fail"),
        (rules(), "fail"),
    ],
)
def test_rules(document: dict[str, Any], status: str) -> None:
    assert prometheus.judge_rules(document).status == status


def test_a_rule_that_cannot_be_evaluated_says_why() -> None:
    found = rules({"name": "InstanceDown", "health": "err", "lastError": "query timed out"})
    assert "InstanceDown (query timed out)" in prometheus.judge_rules(found).detail


@pytest.mark.parametrize(
    ("text", "days", "status"),
    [
        ("3d", 3, "pass"),
        ("72h", 3, "pass"),
        ("1w", 7, "pass"),
        ("15d", 3, "fail"),
        ("0s", 3, "fail"),
    ],
)
def test_retention(text: str, days: int, status: str) -> None:
    assert prometheus.judge_retention({"storage.tsdb.retention.time": text}, days).status == status


# --- networking -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({"lo": True, "eth0": True}, None),
        ({"lo": True, "eth0": False}, "eth0 is down"),
        ({"lo": True}, "0 network cards"),
        ({"lo": True, "eth0": True, "eth1": True}, "2 network cards"),
        ({"eth0": True}, "no loopback"),
    ],
)
def test_interfaces(found: dict[str, bool], problem: str | None) -> None:
    verdict = network.judge_interfaces(found)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "are up") in verdict.detail


OWN = facts.Route("eth0", "10.0.2.0", ANY, "255.255.255.0")
DEFAULT = facts.Route("eth0", ANY, "10.0.2.2", ANY)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([OWN, DEFAULT], None),
        ([OWN], None),
        ([DEFAULT], "no route to its own network"),
        ([OWN, facts.Route("eth1", "192.168.0.0", "10.0.2.9", ANY)], "a route to 192.168.0.0"),
    ],
)
def test_routes(found: list[facts.Route], problem: str | None) -> None:
    verdict = network.judge_routes(found, "10.0.2.0", "10.0.2.2")
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "none beyond") in verdict.detail


def listening(address: str, port: int, protocol: str = "tcp") -> facts.Listener:
    return facts.Listener(protocol, address, port, 0)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ([], None),
        ([listening(ANY, 6379)], "tcp 0.0.0.0:6379 is not exposed"),
        ([listening("::", 5432)], "tcp [::]:5432 is not exposed"),
        ([listening(ANY, 22, "udp")], "udp 0.0.0.0:22 is not exposed"),
        ([listening("127.0.0.1", 9999)], "tcp 127.0.0.1:9999 is not in the catalog"),
    ],
)
def test_listeners(more: list[facts.Listener], problem: str | None) -> None:
    usual = [listening(ANY, 22), listening("127.0.0.1", 5432)]
    verdict = network.judge_listeners([*usual, *more], {22}, {5432})
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "as the catalog says") in verdict.detail


def test_a_port_of_the_catalog_that_nobody_serves_fails() -> None:
    verdict = network.judge_listeners([listening(ANY, 22)], {22, 3002}, {5432})
    assert "nothing listens on the exposed port 3002" in verdict.detail
    assert "nothing listens on port 5432" in verdict.detail


def chain(policy: str, name: str = "input") -> dict[str, Any]:
    where = {"family": "inet", "table": "rave", "name": name}
    return {"chain": {**where, "hook": "input", "policy": policy}}


def accepting(*ports: int) -> dict[str, Any]:
    match = {"left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": [*ports]}}
    where = {"family": "inet", "table": "rave", "chain": "input"}
    return {"rule": {**where, "expr": [{"match": match}, {"accept": None}]}}


@pytest.mark.parametrize(
    ("ruleset", "problem"),
    [
        ([chain("drop"), accepting(22, 3002)], None),
        ([chain("accept"), accepting(22, 3002)], "no input chain drops"),
        ([accepting(22)], "no input chain drops"),
        ([chain("drop"), accepting(22, 3002, 5432)], "port 5432 is admitted"),
        ([chain("drop"), accepting(22)], "port 3002 is not admitted"),
    ],
)
def test_firewall(ruleset: list[dict[str, Any]], problem: str | None) -> None:
    verdict = network.judge_firewall(ruleset, {22, 3002})
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "drops by default") in verdict.detail


@pytest.mark.parametrize(
    ("reached", "status"),
    [({"a": False, "b": False}, "pass"), ({"a": False, "b": True}, "fail"), ({}, "fail")],
)
def test_isolation(reached: dict[str, bool], status: str) -> None:
    assert network.judge_isolation(reached).status == status


def test_isolation_really_tries(tmp_path: object) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ask = {"network": "isolated", "patience": 0.3, "tcp": [("127.0.0.1", port)], "udp": []}
        verdict = network.isolation(ask, None)  # type: ignore[arg-type]
    assert verdict.detail == f"tcp 127.0.0.1:{port} answered"


def test_isolation_of_a_machine_that_may_reach_out_is_skipped() -> None:
    verdict = network.isolation({"network": "nat"}, None)  # type: ignore[arg-type]
    assert (verdict.status, "nat" in verdict.detail) == ("skip", True)
