"""A whole run with a guest and an outside world of our own: what is written, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import generations, identity, store
from rave_cli.machines.guest import command, ssh
from rave_cli.machines.qemu import accelerator, ports, usernet
from rave_cli.machines.qemu.accelerator import Accelerator
from rave_cli.process import Completed
from rave_cli.smoke import onhost, record, recorder, runner, simulated
from rave_cli.smoke.ban import judge_ban
from rave_cli.smoke.banturn import BanTurn
from rave_cli.smoke.model import Check, Verdict
from rave_cli.smoke.operator import Operator
from rave_cli.smoke.recorder import RunRecorder
from rave_cli.smoke.request import SmokeRequest
from rave_cli.smoke.runner import patient
from rave_cli.smoke.runs import find_runs
from rave_cli.smoke.suite import suite
from rave_cli.transcript import RefusedError, SigningKey, verify
from rave_cli.transcript.formats import CURRENT
from rave_cli.transcript.policy import load_policy
from rave_cli.transcript.signing import publish
from tests.unit.smoke.test_smoke_inside import Guest, all_pass
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.smoke.context import CheckContext
    from rave_cli.smoke.model import Look
    from rave_cli.smoke.runner import Settled
    from rave_cli.transcript.check import CheckResult

SECRET = "correct-horse-battery-staple"
GOOD = Verdict("pass", "good")


# Looks that reach for a machine, which there is none of here.
REACHING = (
    "image.overlay", "boot.stages", "boot.clock", "nginx.status-page-outside", "networking.outward",
    "security.ssh-password", "security.ssh-stranger", "security.ssh-root", "security.ports",
    "security.tls-1.3", "security.tls-1.2", "security.certificate", "security.ban",
    "security.canary-image", "security.canary-qemu", "security.canary-logs", "performance.boot",
    "performance.qemu", "performance.page",
)  # fmt: skip


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Look]:
    """What those find instead; a test may change it."""
    found: dict[str, Look] = {id_: lambda _: GOOD for id_ in REACHING}

    def faked(*args: Any, **more: Any) -> tuple[Check, ...]:
        checks = suite(*args, **more)
        assert set(found) <= {check.id for check in checks}
        return tuple(replace(c, look=found[c.id]) if c.id in found else c for c in checks)

    monkeypatch.setattr(runner, "suite", faked)
    return found


@pytest.fixture
def request_(
    machine: Machine,
    plan: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looks: dict[str, Look],
) -> SmokeRequest:
    """A request whose machine answers everything well."""
    # A hundred events, each synced: what a test would wait for is the disk.
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr(ports, "of", lambda _: {22: 1022, 3002: 1302})
    monkeypatch.setattr(accelerator, "detect", lambda: Accelerator("tcg", "the tests say", 0.1))
    answer_with(monkeypatch, Guest(all_pass))
    identity.write(machine)
    key = SigningKey(Ed25519PrivateKey.generate(), tmp_path / "key")
    publish(key)
    return SmokeRequest(
        machine=machine, plan=plan, output=tmp_path / "artifacts", key=key, timeout=60,
        operator=Operator({"redis/password": SECRET, "tls/certificate": "public"}),
    )  # fmt: skip


def answer_with(monkeypatch: pytest.MonkeyPatch, guest: Any) -> None:
    @contextmanager
    def connect(*_: Any, **__: Any) -> Iterator[Any]:
        yield guest

    monkeypatch.setattr(ssh, "connect", connect)


def carry_out(request: SmokeRequest) -> tuple[Any, list[Settled]]:
    told: list[Settled] = []
    return runner.run(request, on_event=told.append), told


def test_a_good_run_is_signed_and_verifies(request_: SmokeRequest) -> None:
    found, told = carry_out(request_)
    assert found.status == "SUCCESS", [r for r in found.results if r.status in ("fail", "error")]
    assert found.count()["skip"] == 4
    assert len(told) == len(found.results)
    assert (told[-1].done, told[-1].total) == (len(found.results), len(found.results))
    places = {name: request_.output / path for name, path in found.files.items()}
    verified = verify(
        places["transcript"], key=request_.key.public_file, image=request_.image.qcow2
    )
    assert "postgresql.roles" in verified.passed
    assert "oidc.sign-in" in verified.skipped
    assert all(path.is_file() for path in places.values())
    assert set(places) == {
        "transcript", "events", "attestation", "signature", "json", "junit", "tap", "prometheus",
    }  # fmt: skip


def test_a_simulated_run_says_so_of_each_check_and_satisfies_no_policy(
    request_: SmokeRequest, tmp_path: Path
) -> None:
    answered: list[Settled] = []
    found = simulated.simulate(request_, on_event=answered.append)
    assert (found.status, found.aborted) == ("ABORTED", simulated.WHY)
    assert len(answered) == len(found.results)
    assert {result.status for result in found.results} == {"skip"}
    assert all(simulated.is_simulated(result) for result in found.results)
    by_id = {result.id: result for result in found.results}
    assert by_id["postgresql.roles"].detail.startswith("simulated: would be asked of the guest")
    assert by_id["oidc.sign-in"].detail.startswith("simulated: would be skipped: ")
    transcript = request_.output / found.files["transcript"]
    document = json.loads(transcript.read_text())
    assert document["signature"] == ""
    assert document["test_summary"]["passed"] == 0
    assert all(check["data"] == {"simulated": True} for check in document["validation_results"])
    assert not list(request_.output.glob("*.sshsig"))
    # Neither as it is nor under a policy that demands next to nothing.
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrequired: [boot.stages]\nallow_warn: true\n")
    for demanded in (None, policy):
        with pytest.raises(RefusedError):
            verify(transcript, key=request_.key.public_file, policy=demanded)
    # And not even if somebody signed what it says.
    told: Any = SimpleNamespace(
        format=CURRENT, checks=by_id, configuration=document["configuration"], packages=None
    )
    assert load_policy(policy).shortfalls(told) == ["boot.stages: skip"]


def test_of_a_simulated_run_only_the_phases_that_are_named_are_simulated(
    request_: SmokeRequest,
) -> None:
    found = simulated.simulate(
        replace(request_, phases=frozenset({"boot"})), on_event=lambda _: None
    )
    marked = {result.phase for result in found.results if simulated.is_simulated(result)}
    assert marked == {"boot"}
    assert {r.detail for r in found.results if r.phase != "boot"} == {runner.NOT_ASKED}


def test_batches_go_over_the_command_channel_where_it_is_to_be_had(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_ssh, channel = Guest(all_pass), Guest(all_pass)
    answer_with(monkeypatch, by_ssh)
    monkeypatch.setattr(command, "connect", lambda _machine: nullcontext(channel))
    found, _ = carry_out(request_)
    assert found.status == "SUCCESS"
    assert by_ssh.asked == []
    of_each = {"security.fail2ban", "redis.ping", "security.sudo"}
    assert [of_each.intersection(ids) for ids in channel.asked] == [
        {"security.fail2ban"}, {"redis.ping"}, {"security.sudo"},
    ]  # fmt: skip


def test_nothing_is_asked_over_it_before_the_login_has_worked(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Guest(all_pass)

    def refuse(*_: Any, **__: Any) -> None:
        raise RaveError("refused", hint="", exit_code=ExitCode.NOT_READY)

    monkeypatch.setattr(ssh, "connect", refuse)
    monkeypatch.setattr(command, "connect", lambda _machine: nullcontext(channel))
    found, _ = carry_out(request_)
    assert (found.status, channel.asked) == ("FAILED", [])


def test_the_transcript_has_the_parts_that_operators_know(request_: SmokeRequest) -> None:
    found, _ = carry_out(request_)
    document = json.loads((request_.output / found.files["transcript"]).read_text())
    assert document["authentication_tests"] == {
        "status": "skipped", "reason": "demo on debian carries no gitlab",
    }  # fmt: skip
    assert document["service_health"]["redis"]["status"] == "healthy"
    assert document["service_health"]["grafana"]["status"] == "skipped"
    assert document["security_validation"]["critical_findings"] == 0
    assert document["system_info"]["accelerator"] == "tcg"
    assert document["test_summary"]["failed"] == 0
    (run,) = find_runs(request_.output)
    assert (run.status, run.profile) == ("SUCCESS", "demo")


def test_the_transcript_says_which_image_was_before_an_update(request_: SmokeRequest) -> None:
    machine = request_.machine
    old = replace(machine.spec, image=replace(machine.spec.image, sha256="0" * 64))
    place = paths.private_dir(machine.directory / generations.PREVIOUS)
    store.save_at(place / store.RECORD, old)
    (place / generations.DISK).touch()
    found, _ = carry_out(request_)
    transcript = request_.output / found.files["transcript"]
    verify(transcript, key=request_.key.public_file, image=request_.image.qcow2)
    said = json.loads(transcript.read_text())
    assert said["system_info"]["updated_from"] == f"sha256:{'0' * 64}"
    assert said["image_digest"] == f"sha256:{machine.spec.image.sha256}"


def with_figures(checks: list[dict[str, Any]]) -> dict[str, Any]:
    answer = all_pass(checks)
    for entry in answer["results"]:
        entry["data"] = {"of": entry["id"], "mib": [1, 2.5]}
    return answer


def test_the_document_says_of_every_check_what_the_event_chain_says(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once said `guest`, one attempt and no data of each."""
    answer_with(monkeypatch, Guest(with_figures))
    found, _ = carry_out(request_)
    places = {name: request_.output / path for name, path in found.files.items()}
    document = json.loads(places["transcript"].read_text())
    events = [json.loads(line) for line in places["events"].read_text().splitlines()]
    chain = {
        event["data"]["id"]: event["data"] | {"phase": event["phase"]}
        for event in events
        if event["kind"] == "check"
    }
    assert {check["id"]: check for check in document["validation_results"]} == chain
    assert {check["viewpoint"] for check in chain.values()} == {"guest", "outside", "host"}
    assert chain["redis.roundtrip"]["attempts"] == 2
    assert chain["redis.roundtrip"]["data"] == {"of": "redis.roundtrip", "mib": [1, 2.5]}
    assert json.loads(places["json"].read_text())["checks"] == document["validation_results"]


def odd(checks: list[dict[str, Any]]) -> dict[str, Any]:
    """A guest that says more than fits, and nothing that is true."""
    nested: Any = "bottom"
    for _ in range(60):
        nested = {"in": [nested]}
    answer = all_pass(checks)
    for entry in answer["results"]:
        entry |= {"seconds": 1e300, "detail": "\ud800\x1b[2J", "data": {"n": 10**300, "d": nested}}
    answer["facts"] = {"kernel": nested, "hostname": "x" * 50_000, "boot_id": ["no"]}
    return answer


def test_whatever_a_guest_says_the_transcript_agrees_with_itself(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, Guest(odd))
    found, _ = carry_out(request_)
    verified = verify(request_.output / found.files["transcript"], key=request_.key.public_file)
    assert (verified.format, verified.status) == (3, "SUCCESS")


def failing(checks: list[dict[str, Any]]) -> dict[str, Any]:
    answer = all_pass(checks)
    for entry in answer["results"]:
        if entry["id"] == "redis.roundtrip":
            entry |= {"status": "fail", "detail": f"GET said {SECRET}", "data": {"x": SECRET}}
    return answer


def test_a_failure_fails_the_run_and_never_shows_a_secret(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, Guest(failing))
    found, _ = carry_out(request_)
    results = {r.id: r for r in found.results}
    assert found.status == "FAILED"
    assert results["redis.roundtrip"].detail == "GET said [redacted]"
    assert results["security.canary-records"].status == "fail"
    for path in request_.output.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path
    assert json.loads((request_.output / found.files["transcript"]).read_text())[
        "overall_status"
    ] == "FAILED"  # fmt: skip


def test_a_probe_that_answers_rubbish_makes_errors_not_passes(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, Guest(lambda _: b"rubbish"))
    found, _ = carry_out(request_)
    guest = [r for r in found.results if r.viewpoint == "guest"]
    assert {r.status for r in guest} == {"error"}
    assert found.status == "FAILED"


def test_a_refused_login_skips_what_is_asked_inside(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any, **__: Any) -> Any:
        raise RaveError("the host key changed", exit_code=ExitCode.NOT_READY)

    monkeypatch.setattr(ssh, "connect", connect)
    found, _ = carry_out(request_)
    results = {r.id: r for r in found.results}
    assert results["boot.ssh"].status == "error"
    assert results["boot.ssh"].detail == "the host key changed"
    assert results["postgresql.roles"].status == "skip"
    assert found.status == "FAILED"


def test_a_look_that_breaks_is_an_error_of_its_own_checks(
    request_: SmokeRequest, looks: dict[str, Look]
) -> None:
    def broken(*_: Any) -> Any:
        raise ConnectionResetError("gone")

    looks["security.tls-1.3"] = looks["security.tls-1.2"] = broken
    found, _ = carry_out(request_)
    results = {r.id: r for r in found.results}
    assert results["security.tls-1.3"].status == results["security.tls-1.2"].status == "error"
    assert results["security.ports"].status == "pass"


def test_one_look_answers_all_checks_that_it_is_declared_for(
    request_: SmokeRequest, looks: dict[str, Look]
) -> None:
    times: list[int] = []

    def both(_: Any) -> Any:
        times.append(1)
        return {"security.tls-1.3": GOOD, "security.tls-1.2": Verdict("fail", "TLSv1.2 accepted")}

    looks["security.tls-1.3"] = looks["security.tls-1.2"] = both
    found, _ = carry_out(request_)
    results = {r.id: r for r in found.results}
    assert times == [1]
    assert (results["security.tls-1.3"].status, results["security.tls-1.2"].status) == (
        "pass", "fail",
    )  # fmt: skip


def test_a_page_that_does_not_come_at_first_is_asked_for_again(
    request_: SmokeRequest, looks: dict[str, Look]
) -> None:
    """A machine that had just come up on a busy host failed `rave up` by one page alone."""
    verdicts = iter([Verdict("fail", "ReadTimeout: The read operation timed out"), GOOD])
    looks["nginx.status-page-outside"] = lambda _: next(verdicts)
    found, _ = carry_out(request_)
    results = {r.id: r for r in found.results}
    page = results["nginx.status-page-outside"]
    assert (page.status, page.attempts) == ("pass", 2)


def test_a_look_from_outside_waits_longer_on_a_busy_host() -> None:
    def look(_: object, *, timeout: float) -> Verdict:
        return Verdict("pass", f"{timeout:g}")

    given = Check("a.b", "health", "a", look=partial(look, timeout=5.0))
    (found,) = patient([given], 2.0)
    assert found.look is not None
    assert found.look(object()) == Verdict("pass", "10")  # type: ignore[arg-type]


def test_steps_come_in_their_order_whatever_goes_on_beside_them(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch, looks: dict[str, Look]
) -> None:
    guest = Guest(all_pass)
    answer_with(monkeypatch, guest)
    order: list[str] = []
    for id_ in looks:
        looks[id_] = lambda _, id_=id_: order.append(id_) or GOOD  # type: ignore[misc,func-returns-value]
    _, told = carry_out(request_)
    settled = [event.result.id for event in told]
    (early,) = [batch for batch in guest.asked if "security.fail2ban" in batch]
    first, late = [batch for batch in guest.asked if batch is not early]
    assert early == ["fail2ban.units", "fail2ban.jail", "security.fail2ban"], "the ban goes by it"
    assert all(settled.index("boot.ssh") < settled.index(id_) for id_ in (*early, *first))
    assert settled.index("security.fail2ban") < settled.index("security.ban")
    assert {"security.canary-journal", "performance.memory"} <= set(late)
    assert not {id_ for id_ in first if id_.startswith(("performance.", "security.canary"))}
    for seen in ("performance.page", "security.ports", "security.certificate", "boot.clock"):
        assert order.index(seen) < order.index("security.ssh-password"), seen
    assert order.index("security.ssh-root") < order.index("security.ban")
    assert settled.index("security.ban") < settled.index("security.canary-records")
    assert settled.index(late[-1]) < settled.index("security.canary-logs")


def tried(context: CheckContext) -> Verdict:
    """A ban that was tried."""
    context.ban.tried()
    return judge_ban(shut=True, inner=context.ban.outcome(), reopened=True)


@pytest.mark.parametrize("reply", [all_pass, lambda _: b"rubbish"])
def test_a_batch_of_the_guests_lifts_the_ban_which_is_no_check_of_its_own(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch, looks: dict[str, Look], reply: Any
) -> None:
    def answer(checks: list[dict[str, Any]]) -> Any:
        return reply(checks) if lifts(checks) else all_pass(checks)

    def lifts(checks: list[dict[str, Any]]) -> bool:
        return "security.ban-lifted" in {check["id"] for check in checks}

    guest = Guest(answer)
    answer_with(monkeypatch, guest)
    looks["security.ban"] = tried
    found, _ = carry_out(request_)
    lifting = [batch for batch in guest.asked if "security.ban-lifted" in batch]
    assert [batch[0] for batch in lifting] == ["security.ban-lifted"], "it waits beside all others"
    assert "security.canary-files" in lifting[0]
    results = {result.id: result.status for result in found.results}
    assert results["security.ban"] == ("pass" if reply is all_pass else "error")
    assert "security.ban-lifted" not in results


def in_the_log(request: SmokeRequest, files: Any) -> list[str]:
    lines = (request.output / files["events"]).read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [f"{e['kind']} {e['data'].get('id') or e['data'].get('moment') or ''}" for e in events]


def test_the_log_is_in_the_order_of_the_steps_whatever_ends_first(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch, looks: dict[str, Look]
) -> None:
    def slow(_: object) -> Verdict:
        time.sleep(0.1)
        return GOOD

    orders = []
    for late in ((), ("security.ports",), ("performance.page", "security.canary-image")):
        looks |= {id_: slow if id_ in late else (lambda _: GOOD) for id_ in looks}
        found, told = carry_out(request_)
        orders.append(in_the_log(request_, found.files))
        assert {event.result.id for event in told} == {result.id for result in found.results}
    assert orders[0] == orders[1] == orders[2]
    assert orders[0].index("check boot.ssh") < orders[0].index("check security.ports")
    assert orders[0][-3:] == ["digest after", "check image.unchanged", "end "]


def test_what_was_found_before_an_interrupt_is_in_the_log(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch, looks: dict[str, Look]
) -> None:
    """The scan has its turn after the looks from outside, which never end."""
    seen = threading.Event()

    def scan(_: object) -> Verdict:
        seen.set()
        return GOOD

    class Late(Interrupted):
        def before(self) -> None:
            seen.wait(CEILING)
            time.sleep(0.1)

    def stuck(_: object) -> Verdict:
        time.sleep(0.5)
        return GOOD

    looks["security.ports"] = scan
    looks["performance.page"] = stuck
    answer_with(monkeypatch, Late(all_pass))
    with pytest.raises(KeyboardInterrupt):
        carry_out(request_)
    (events,) = request_.output.glob("*.events.ndjson")
    kinds = in_the_log(request_, {"events": events.name})
    assert "check security.ports" in kinds
    assert kinds[-1] == "abort "


def test_on_a_busy_host_the_guest_gets_more_time(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a busy host made slow was told as an error of the machine."""
    times: dict[float, dict[str, float]] = {}

    def reply(checks: list[dict[str, Any]]) -> Any:
        given.update({check["id"]: check["timeout"] for check in checks})
        return all_pass(checks)

    for load in (0.0, 2.0):
        given = times.setdefault(load, {})
        per_processor = load * (os.cpu_count() or 1)
        monkeypatch.setattr(os, "getloadavg", lambda now=per_processor: (now, now, now))
        answer_with(monkeypatch, Guest(reply))
        carry_out(request_)
    assert times[2.0] == {name: 2 * seconds for name, seconds in times[0.0].items()}
    assert "boot.locale" in times[0.0]


def test_an_open_connection_is_used_instead_of_another_login(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Open(Guest):
        def run(self, argv: Any, **more: Any) -> Any:
            return (
                Completed(("date",), 0, f"{time.time()}\n".encode(), b"")
                if "date" in argv
                else super().run(argv, **more)
            )

    def connect(*_: Any, **__: Any) -> Any:
        raise AssertionError("a second login")

    monkeypatch.setattr(ssh, "connect", connect)
    guest: Any = Open(all_pass)
    found, _ = carry_out(replace(request_, session=guest))
    assert found.status == "SUCCESS"
    assert "logged in before the run" in {r.id: r for r in found.results}["boot.ssh"].detail


def test_phases_that_were_not_asked_for_are_recorded_as_skipped(request_: SmokeRequest) -> None:
    found, _ = carry_out(replace(request_, phases=frozenset({"performance"})))
    for result in found.results:
        if result.phase == "performance" or result.id == "boot.ssh":
            assert result.status == "pass", result
        else:
            assert (result.status, result.detail) == ("skip", "not asked for (--phase)"), result


def test_an_image_that_changes_during_the_run_fails(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = iter([request_.image.sha256, "b" * 64])
    monkeypatch.setattr(onhost, "digest", lambda _: next(digests))
    found, _ = carry_out(request_)
    assert {r.id: r.status for r in found.results}["image.unchanged"] == "fail"
    assert found.status == "FAILED"


class Interrupted(Guest):
    """Ctrl-C reaches the main thread alone; what else is asked is answered."""

    def run(self, argv: Any, **more: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            self.before()
            raise KeyboardInterrupt
        return super().run(argv, **more)

    def before(self) -> None:
        """What the main thread waits for."""


def test_ctrl_c_leaves_an_aborted_run_that_never_verifies(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, Interrupted(all_pass))
    with pytest.raises(KeyboardInterrupt):
        carry_out(request_)
    (document,) = request_.output.glob("*Z.json")
    assert json.loads(document.read_text())["overall_status"] == "ABORTED"
    with pytest.raises(RefusedError):
        verify(document, key=request_.key.public_file)
    (junit,) = request_.output.glob("*.junit.xml")
    assert "interrupted" in junit.read_text()
    assert not list(request_.output.glob("*.sshsig"))
    assert find_runs(request_.output)[0].status == "ABORTED"


def test_ctrl_c_before_the_first_check_leaves_an_aborted_run_too(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the log had begun, a run that was ended at once left that alone, without an end."""
    subject = record.run_subject

    def interrupted(*about: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return subject(*about)

    monkeypatch.setattr(recorder, "run_subject", interrupted)
    answer_with(monkeypatch, Guest(all_pass))
    with signals.handled(), pytest.raises(signals.Interrupted):
        carry_out(request_)
    (document,) = request_.output.glob("*Z.json")
    assert json.loads(document.read_text())["overall_status"] == "ABORTED"


def test_what_goes_on_beside_an_interrupted_run_ends_and_takes_back_what_it_added(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch, looks: dict[str, Look]
) -> None:
    done, begun, given_up = [], threading.Event(), threading.Event()

    def scan(_: object) -> Verdict:
        begun.set()
        given_up.wait(CEILING)
        done.append("scan")
        return GOOD

    def later(_: object) -> Verdict:
        done.append("later")
        return GOOD

    class Late(Interrupted):
        def before(self) -> None:
            begun.wait(CEILING)

    def end(turn: BanTurn, why: RaveError) -> None:
        given_up.set()
        ends(turn, why)

    ends = BanTurn.end
    monkeypatch.setattr(BanTurn, "end", end)
    looks["security.ports"] = scan
    looks["security.ssh-password"] = looks["security.ssh-root"] = later
    answer_with(monkeypatch, Late(all_pass))
    monkeypatch.setattr(usernet, "take_back", lambda _machine: done.append("taken back"))
    with pytest.raises(KeyboardInterrupt):
        carry_out(request_)
    assert done[-2:] == ["scan", "taken back"]


def test_a_run_out_of_time_is_aborted_and_says_how_to_get_more(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(checks: list[dict[str, Any]]) -> dict[str, Any]:
        time.sleep(0.4)
        return all_pass(checks)

    answer_with(monkeypatch, Guest(slow))
    with pytest.raises(RaveError, match=r"did not end within 0\.2 s") as caught:
        carry_out(replace(request_, timeout=0.2))
    assert caught.value.exit_code == ExitCode.CHECK_FAILED
    assert "VALIDATION_TIMEOUT" in (caught.value.hint or "")
    (document,) = request_.output.glob("*Z.json")
    assert json.loads(document.read_text())["overall_status"] == "ABORTED"


def test_a_record_that_cannot_be_written_any_further_stops_the_run(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = RaveError("no space left", exit_code=ExitCode.HOST)
    real = RunRecorder.add

    def add(recorder: RunRecorder, result: CheckResult, **more: Any) -> None:
        if result.id == "security.ports":
            raise full
        real(recorder, result, **more)

    monkeypatch.setattr(RunRecorder, "add", add)
    with pytest.raises(RaveError, match="no space left"):
        carry_out(request_)
    assert not list(request_.output.glob("*Z.json"))


def test_a_place_that_cannot_be_written_is_told_before_the_run(
    request_: SmokeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = request_.output.parent / "file"
    output.write_text("in the way")
    with pytest.raises(RaveError) as caught:
        carry_out(replace(request_, output=output / "artifacts"))
    assert caught.value.exit_code == ExitCode.HOST


def test_a_nonce_is_carried(request_: SmokeRequest) -> None:
    found, _ = carry_out(replace(request_, nonce="for-you-only"))
    verified = verify(
        request_.output / found.files["transcript"],
        key=request_.key.public_file,
        nonce="for-you-only",
    )
    assert verified.nonce == "for-you-only"


def test_a_damaged_transcript_is_listed_as_such(tmp_path: Path) -> None:
    (tmp_path / "boot_transcript_20260124T143052Z.json").write_text("{")
    (tmp_path / "boot_transcript_20260124T143052Z.dsse.json").write_text("{}")
    (run,) = find_runs(tmp_path)
    assert run.status == "damaged"
