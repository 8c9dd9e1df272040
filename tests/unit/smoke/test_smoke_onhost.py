"""What is looked at on the host: plan, specification, image, stages, memory; and the searches."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.machines import identity, status
from rave_cli.machines.guest.stages import StageEvent
from rave_cli.machines.qemu import usernet
from rave_cli.smoke import canaries, onhost, scan
from rave_cli.smoke.context import CheckContext, Recorded, decoys
from rave_cli.smoke.operator import Operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.images.manifest import Image
    from rave_cli.machines.qemu.program import Kind
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan

SECRET = "correct-horse/battery+staple"


@pytest.fixture
def context(machine: Machine, plan: Plan, image: Image) -> CheckContext:
    return CheckContext(machine, plan, image, {}, Operator(), {"redis/password": SECRET})


# --- configuration and image ---------------------------------------------------------------------


def test_the_real_plan_is_free_of_contradictions(plan: Plan) -> None:
    assert onhost.judge_plan(plan).status == "pass"


def test_contradictions_of_a_plan(plan: Plan) -> None:
    nats = plan.services["nats"]
    twice = plan.model_copy(update={"services": {"nats": nats, "other": nats}})
    detail = onhost.judge_plan(twice).detail
    assert "port 4222 is used 2 times" in detail
    assert "the check nats.healthz comes 2 times" in detail
    without = plan.model_copy(update={"secrets": {}})
    assert "needs the secret redis/password" in onhost.judge_plan(without).detail
    assert onhost.judge_plan(plan.model_copy(update={"services": {}})).status == "fail"


@pytest.mark.parametrize(("memory", "status"), [(2048, "pass"), (1024, "pass"), (4096, "warn")])
def test_resources(machine: Machine, plan: Plan, memory: int, status: str) -> None:
    spec = replace(machine.spec, memory_mib=memory)
    assert onhost.judge_resources(spec, plan).status == status


@pytest.mark.parametrize(
    ("operator", "status"),
    [
        (Operator({"a": "b"}), "pass"),
        (Operator(missing="there is no secrets file"), "skip"),
        (Operator(problems=("the MAC does not fit",), missing="x"), "fail"),
    ],
)
def test_the_secrets_file(context: CheckContext, operator: Operator, status: str) -> None:
    assert onhost.secrets_file(replace(context, operator=operator)).status == status


def test_integrity_is_the_digest_of_the_bytes(context: CheckContext, image: Image) -> None:
    assert onhost.integrity(context).status == "pass"
    image.qcow2.chmod(0o644)
    image.qcow2.write_bytes(b"other")
    assert onhost.integrity(context).status == "fail"


def test_the_image_must_not_change_during_the_run(context: CheckContext, image: Image) -> None:
    kept: list[tuple[str, str]] = []

    def keep(moment: str, sha256: str) -> str:
        kept.append((moment, sha256))
        return sha256

    here = replace(context, digests={"before": image.sha256}, keep_digest=keep)
    assert onhost.unchanged(here).status == "pass"
    assert kept == [("after", image.sha256)]
    assert onhost.judge_change("a" * 64, "b" * 64).status == "fail"


def test_the_image_is_read_only_and_in_the_store(context: CheckContext, image: Image) -> None:
    assert onhost.read_only(context).status == "pass"
    image.qcow2.chmod(0o644)
    assert "mode is 0644" in onhost.read_only(context).detail
    elsewhere = replace(context, image=replace(image, store_path="/nix/store/x"))
    assert "not in /nix/store/x" in onhost.read_only(elsewhere).detail


@pytest.mark.parametrize("key", ["full-backing-filename", "backing-filename"])
def test_the_overlay_lies_on_the_image(image: Image, key: str) -> None:
    info = {key: str(image.qcow2), "actual-size": 1 << 20}
    assert onhost.judge_overlay([info, {}], image.qcow2).status == "pass"
    assert onhost.judge_overlay([{key: "/other"}], image.qcow2).status == "fail"
    assert onhost.judge_overlay([{}], image.qcow2).detail == "it lies on None"


def test_between_the_overlay_and_the_image_lies_nothing_but_the_disk_of_its_template(
    image: Image,
) -> None:
    base = Path("/vms/demo/base.qcow2")
    chain = [{"full-backing-filename": str(place)} for place in (base, image.qcow2)]
    verdict = onhost.judge_overlay([*chain, {}], image.qcow2, (base,))
    assert (verdict.status, "its template" in verdict.detail) == ("pass", True)
    assert onhost.judge_overlay([*chain, {}], image.qcow2).status == "fail"
    other = {"full-backing-filename": "/vms/other/base.qcow2"}
    assert onhost.judge_overlay([other, chain[1], {}], image.qcow2, (base,)).status == "fail"


def test_a_fresh_system_of_a_machine_from_a_template_lies_on_the_image_alone(image: Image) -> None:
    chain = [{"full-backing-filename": str(image.qcow2)}, {}]
    base = Path("/vms/demo/base.qcow2")
    assert onhost.judge_overlay(chain, image.qcow2, (base,)).status == "pass"


# --- boot and use of resources -------------------------------------------------------------------


def events(uptimes: dict[str, float], instance: str = "i") -> list[StageEvent]:
    data: dict[str, Any] = {"services": {"a": {"state": "healthy", "uptime": 9.0}}}
    return [
        StageEvent(stage, instance, uptime, data if stage == "services" else {})
        for stage, uptime in uptimes.items()
    ]


def later(uptime: float) -> StageEvent:
    return StageEvent("services", "i", uptime, {"services": {"a": {"state": "failed"}}})


GOOD = {"systemd": 2.0, "sshd": 4.0, "services": 9.5}


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (events(GOOD), None),
        (events({"systemd": 2.0}), "no report of sshd; no report of services"),
        ([*events(GOOD), *events({"sshd": 1}, "j")], "another instance"),
        (events({"systemd": 2.0, "services": 9.0, "sshd": 4.0}), "ran backwards"),
        ([*events(GOOD), StageEvent("failed", "i", 10.0, {"reason": "emergency"})], "emergency"),
        ([], "no report of systemd"),
        # A verdict that came later is not one on the boot.
        ([*events(GOOD), later(12.0)], None),
    ],
)
def test_stages(found: list[StageEvent], problem: str | None) -> None:
    verdict = onhost.judge_stages(found, "i")
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "services 9.5 s") in verdict.detail


def test_a_machine_that_was_started_from_a_template_is_not_said_to_have_booted(
    context: CheckContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "origin_of", lambda _machine: "template sha256:0f")
    own = context.machine
    verdict = onhost.not_booted(own, events({"services": 9.5}))
    assert verdict is not None
    assert verdict.status == "skip"
    assert verdict.detail == (
        "not booted but started from template sha256:0f: systemd, sshd not seen"
    )
    # It has been restarted from within since.
    assert onhost.not_booted(own, events(GOOD)) is None
    # It was suspended, and goes on.
    monkeypatch.setattr(status, "origin_of", lambda _machine: "resumed")
    assert onhost.not_booted(own, events(GOOD)) is None
    resumed = onhost.not_booted(own, events({"services": 9.5}))
    assert resumed is not None
    assert resumed.detail == "not booted but resumed: systemd, sshd not seen"
    monkeypatch.setattr(status, "origin_of", lambda _machine: "cold")
    assert onhost.not_booted(own, []) is None


@pytest.mark.parametrize(
    ("uptime", "kind", "status"),
    [(9.5, "kvm", "pass"), (61.0, "kvm", "fail"), (9.5, "tcg", "pass"), (61.0, "tcg", "warn")],
)
def test_boot_time(uptime: float, kind: Kind, status: str) -> None:
    assert onhost.judge_boot(events({"services": uptime})[0], kind).status == status


def test_memory_of_qemu() -> None:
    assert onhost.judge_resident(2500, 2048, 2816).status == "pass"
    assert onhost.judge_resident(3000, 2048, 2816).status == "fail"
    # Under KVM there is no translation cache to fill.
    assert onhost.judge_resident(2500, 2048, 2304).status == "fail"


def test_size_of_the_image() -> None:
    assert onhost.judge_size(650 << 20, 12).status == "pass"
    assert onhost.judge_size(4 << 30, 12).status == "fail"


# --- listeners for the guest to try --------------------------------------------------------------


def test_decoys_hear_whoever_comes(context: CheckContext) -> None:
    import socket

    with decoys("10.0.2.2") as listeners:
        here = replace(context, decoys=listeners)
        assert listeners[0].seen[0] == "10.0.2.2"
        assert onhost.decoys(here).status == "pass"
        with socket.create_connection(listeners[0].address):
            verdict = onhost.decoys(here)
    assert verdict.status == "fail"
    assert "1 connections arrived at 10.0.2.2" in verdict.detail


def test_without_a_listener_nothing_is_proven() -> None:
    assert onhost.judge_decoys({}, []).status == "error"
    assert onhost.judge_decoys({"a": 0}, ["deaf"]).status == "error"


# --- searches ------------------------------------------------------------------------------------


def test_secrets_are_hidden_but_certificates(plan: Plan, machine: Machine) -> None:
    identity.write(machine)
    operator = Operator({"redis/password": "x", "tls/certificate": "y"})
    assert sorted(onhost.hidden(plan, operator, machine)) == [
        "machine/age key", "machine/host key", "machine/login key", "redis/password",
    ]  # fmt: skip


def test_without_the_operator_s_secrets_there_is_nothing_to_search_for(
    plan: Plan, machine: Machine
) -> None:
    assert onhost.hidden(plan, Operator(missing="no file"), machine) == {}


def test_the_private_part_of_a_key_is_neither_its_kind_nor_its_public_half(
    plan: Plan, machine: Machine
) -> None:
    identity.write(machine)
    found = onhost.hidden(plan, Operator({"redis/password": "x"}), machine)
    host, login = found["machine/host key"], found["machine/login key"]
    assert not set(host.splitlines()) & set(login.splitlines())
    assert all(line in machine.host_key.read_text() for line in host.splitlines())
    assert "AGE-SECRET-KEY-" in found["machine/age key"]
    public = machine.known_hosts.read_text().split()[2]
    assert not any(line in public for line in host.splitlines())


@pytest.mark.parametrize("encode", [str.encode, lambda text: text.encode().hex().encode()])
def test_the_search_finds_every_form_and_names_the_place(tmp_path: Path, encode: Any) -> None:
    (tmp_path / "clean").write_bytes(b"nothing here")
    (tmp_path / "dirty.qcow2").write_bytes(b"\0" * 5000 + encode(SECRET) + b"\0\n" * 9)
    verdict = canaries.search(tmp_path, canaries.patterns({"redis/password": SECRET}))
    assert verdict.status == "fail"
    assert verdict.detail == f"found in {tmp_path}/dirty.qcow2"


def test_a_search_without_a_find_passes(tmp_path: Path) -> None:
    (tmp_path / "clean").write_bytes(b"nothing here")
    verdict = canaries.search(tmp_path, canaries.patterns({"redis/password": SECRET}))
    assert verdict.status == "pass"
    assert SECRET not in verdict.detail


def test_a_place_that_is_not_there_is_an_error_not_a_pass(tmp_path: Path) -> None:
    verdict = canaries.search(tmp_path / "gone", canaries.patterns({"redis/password": SECRET}))
    assert verdict.status == "error"


def test_logs_are_searched(context: CheckContext) -> None:
    context.machine.console_log.write_text("Linux version 6.1\n")
    assert canaries.logs(context).status == "pass"
    context.machine.qemu_log.write_text(f"oops {SECRET}\n")
    verdict = canaries.logs(context)
    assert verdict.detail == "redis/password is in qemu.log"


def test_what_had_to_be_redacted_was_about_to_be_published(context: CheckContext) -> None:
    assert canaries.records(replace(context, recorded=lambda: Recorded(7, 0))).status == "pass"
    verdict = canaries.records(replace(context, recorded=lambda: Recorded(7, 2)))
    assert (verdict.status, verdict.detail) == ("fail", "2 places had to be redacted")


@pytest.mark.parametrize("look", [canaries.logs, canaries.qemu, canaries.image, canaries.records])
def test_without_secrets_a_search_is_skipped_with_the_reason(
    context: CheckContext, look: Any
) -> None:
    bare = replace(context, hidden={}, operator=Operator(missing="there is no secrets file"))
    verdict = look(bare)
    assert verdict.status == "skip"
    assert "there is no secrets file" in verdict.detail


# --- port scan -----------------------------------------------------------------------------------

USERNET = """\
Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   29       127.0.0.1 41234       10.0.2.15    22     0     0
  TCP[SYN_SENT]      31       127.0.0.1 41236       10.0.2.15  5432     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 38921       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  14       127.0.0.1 44444       10.0.2.15  6379     0     0
"""


def test_only_what_the_guest_answered_is_reachable() -> None:
    assert scan.established(USERNET) == {22}


def test_the_witness_comes_after_all_others_are_under_way_and_before_they_are_judged(
    context: CheckContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "  TCP[{}]  31  127.0.0.1 41236  10.0.2.15  5432     0     0\n"
    tables = [row.format(state) for state in ("HOST_FORWARD", "SYN_SENT", "ESTABLISHED")]
    order: list[str] = []

    def table(_machine: Machine) -> str:
        order.append(tables[0])
        return tables.pop(0)

    monkeypatch.setattr(scan, "_table", table)
    monkeypatch.setattr(usernet, "temporary", lambda *_: nullcontext({}))
    assert scan._answered(context.machine, [5432], lambda: order.append("witness")) == [5432]
    assert [said.strip()[:9] for said in order] == [
        "TCP[HOST_", "TCP[SYN_S", "witness", "TCP[ESTAB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("others", "answered", "visited"),
    [(True, True, False), (True, False, True), (False, True, True)],
)
def test_sshd_gets_no_visitor_more_where_logins_made_ahead_and_a_witness_were_answered(
    context: CheckContext, monkeypatch: pytest.MonkeyPatch, others: bool, answered: bool,
    visited: bool,
) -> None:  # fmt: skip
    asked = []

    def speaks(port: int | None, _timeout: float) -> bool:
        asked.append(port)
        return port == 2022 or others

    def witnessed(_machine: Machine, _tried: object, witness: Callable[[], None]) -> list[int]:
        witness()
        return []

    monkeypatch.setattr(scan, "_speaks", speaks)
    monkeypatch.setattr(scan, "_answered", witnessed)
    monkeypatch.setattr(context.knocks, "answered", lambda _timeout: answered)
    verdict = scan.ports(replace(context, ports={22: 2022, 3002: 2302}))
    assert (2022 in asked) is visited
    assert verdict.status == ("pass" if others else "fail")


def test_the_scan_tries_every_closed_port_of_the_catalog(context: CheckContext) -> None:
    tried = scan.targets(context)
    assert {5432, 6379, 4222, 9090} <= set(tried)
    assert not {22, 3002} & set(tried)


@pytest.mark.parametrize(
    ("answered", "silent", "problem"),
    [
        ([], [], None),
        ([5432], [], "port 5432 can be reached"),
        ([], [3002], "exposed port 3002 does not answer"),
    ],
)
def test_scan(answered: list[int], silent: list[int], problem: str | None) -> None:
    verdict = scan.judge_scan(answered, silent, [5432, 6379], [22, 3002])
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "2 others tried") in verdict.detail
