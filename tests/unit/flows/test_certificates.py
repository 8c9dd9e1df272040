"""`rave tls`, from the host: looked at, renewed, of one's own, and shown by a guest that runs."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import certificates
from rave_cli.images import carried
from rave_cli.machines import certificate, store
from rave_cli.machines.guest.call import Refusal
from rave_cli.machines.guest.door import VerbRefusedError
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.tls import authority
from tests.sops import secret
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.flows.events import Event
    from rave_cli.machines.spec import Machine

HOST = "rave.example.org"
DAY = 86400.0


class Guest:
    """A machine that runs: nginx with a certificate, which the door changes."""

    def __init__(self, place: Path, machine: Machine) -> None:
        self.place, self.machine = place, machine
        self.show(certificate.of(machine))
        self.asked = 0
        self.fault: RaveError | None = None
        self.deaf = False
        self.port = 0

    def show(self, found: certificate.MachineCertificate) -> None:
        """Show a certificate from now on."""
        offer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.place.write_text(found.key + found.chain)
        offer.load_cert_chain(self.place)
        self.offer = offer

    def call(self, verb: str, arguments: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        assert verb == "certificate"
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        if not self.deaf:
            made = certificate.MachineCertificate("issued", "", 0.0, **arguments)
            self.show(made)
        return {"changed": True}

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve handshakes."""
        stop = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.05)
            self.port = listener.getsockname()[1]

            def serve() -> None:
                while not stop.is_set():
                    with suppress(OSError):
                        plain, _ = listener.accept()
                        plain.settimeout(CEILING)
                        with plain, self.offer.wrap_socket(plain, server_side=True) as secured:
                            secured.recv(1)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield
            stop.set()
            thread.join(CEILING)


@pytest.fixture
def planned(machine: Machine) -> Machine:
    """A machine of an image that has a plan."""
    plan = parse(BAKED.read_bytes()).plan("development", "debian")
    carried.write(machine.plan, carried.Carried(door=2, plan=plan))
    return machine


@pytest.fixture
def guest(planned: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """The same, running."""
    found = Guest(tmp_path / "shown.pem", planned)

    @contextmanager
    def connect(_machine: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr("rave_cli.flows.certificates.connection.connect", connect)
    monkeypatch.setattr("rave_cli.flows.certificates.Door.of", lambda *_: found)
    running = SimpleNamespace(find=lambda _machine: object())
    monkeypatch.setattr(certificates, "processes", running)
    monkeypatch.setattr(
        certificates, "ports", SimpleNamespace(of=lambda _machine: {3002: found.port})
    )
    monkeypatch.setattr(certificates, "SHOWS", 0.3)
    with found.serving():
        yield found


def ends_in(machine: Machine, days: float) -> None:
    """Let the certificate of a machine end then, as far as the machine's file says."""
    found = certificate.of(machine)
    certificate.keep(machine, replace(found, until=time.time() + days * DAY))


def issued_before(machine: Machine, days: float) -> None:
    """Give a machine a certificate that was issued so many days ago."""
    own, then = authority.of("rave.localhost"), datetime.now(UTC) - timedelta(days=days)
    made = authority.issue(own, "rave.localhost", now=then)
    until = (then + authority.LEAF_LIFE).timestamp()
    found = certificate.MachineCertificate("issued", "rave.localhost", until, made.chain, made.key)
    certificate.keep(machine, found)


def test_the_one_that_a_running_machine_shows_is_looked_at(guest: Guest) -> None:
    found = certificates.status("demo")
    assert (found.kind, found.shown, found.trusted, found.problems) == ("issued", "this", False, ())
    assert found.facts.names == ("localhost", "rave.localhost", "*.rave.localhost", "127.0.0.1")
    certificate.issue(guest.machine)
    (problem,) = certificates.status("demo").problems
    assert problem == "its nginx shows another one: rave tls renew demo"


def test_a_machine_that_does_not_run_shows_none(planned: Machine) -> None:
    assert certificates.status("demo").shown == "not running"


def test_a_port_behind_which_nobody_speaks_tls_is_told(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        closed = silent.getsockname()[1]
        here = SimpleNamespace(of=lambda _machine: {3002: closed})
        monkeypatch.setattr(certificates, "ports", here)
        assert certificates.status("demo").shown == "no answer"


@pytest.mark.parametrize(
    ("days", "why"), [(91, "it ended on"), (80, "it ends in 9 days"), (1, None)]
)
def test_the_end_is_told_with_the_command_that_helps(
    planned: Machine, days: float, why: str | None
) -> None:
    issued_before(planned, days)
    problems = certificates.status("demo").problems
    assert [problem.startswith(str(why)) for problem in problems] == [True] * (why is not None)
    assert all("rave tls renew demo --now" in problem for problem in problems)


def test_what_an_authority_of_before_issued_is_told(planned: Machine) -> None:
    # As the how-to has it.
    kept = authority.folder("localhost")
    kept.rename(kept.with_name("before"))
    (problem,) = certificates.status("demo").problems
    assert "no longer this login's" in problem
    certificates.renew("demo", now=True)
    assert certificates.status("demo").problems == ()


def test_another_name_is_told(planned: Machine) -> None:
    store.save(replace(planned, spec=replace(planned.spec, own_origin=f"https://{HOST}")))
    assert certificates.status("demo").problems[0].startswith(f"it is not for {HOST}")


@pytest.mark.parametrize(("days", "renewed"), [(89, False), (31, False), (29, True)])
def test_renewal_is_due_when_a_third_is_left_and_a_guest_shows_it_at_once(
    guest: Guest, days: float, renewed: bool
) -> None:
    ends_in(guest.machine, days)
    before = certificate.of(guest.machine) if not renewed else certificate.stored(guest.machine)
    done = certificates.renew("demo")
    assert (done.changed, done.shown) == (renewed, "now")
    assert (certificate.of(guest.machine) != before) is renewed
    assert certificates.status("demo").shown == "this"


def test_it_is_renewed_at_once_if_that_is_asked_for(planned: Machine) -> None:
    before = certificate.of(planned)
    done = certificates.renew("demo", now=True)
    assert (done.changed, done.shown) == (True, "next start")
    assert certificate.of(planned) != before


def own(tmp_path: Path, host: str = HOST, *, days: float = 0) -> tuple[Path, Path]:
    """Return the files of a certificate of one's own, and of its key."""
    now = datetime.now(UTC)
    made = authority.issue(
        authority.make(host, now=now - timedelta(days=100)), host, now=now - timedelta(days=days)
    )
    cert, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    cert.write_text(made.chain)
    key.write_text(made.key)
    key.chmod(0o600)
    return cert, key


@pytest.fixture
def named(planned: Machine) -> Machine:
    """A machine with a public origin of its own."""
    changed = replace(planned, spec=replace(planned.spec, own_origin=f"https://{HOST}"))
    store.save(changed)
    return changed


def test_one_of_your_own_is_shown_and_kept_and_not_renewed(
    named: Machine, guest: Guest, tmp_path: Path
) -> None:
    cert, key = own(tmp_path)
    done = certificates.install("demo", cert, key)
    assert (done.changed, done.shown) == (True, "now")
    found = certificates.status("demo")
    assert (found.kind, found.shown, found.problems) == ("installed", "this", ())
    assert certificates.install("demo", cert, key).changed is False
    with pytest.raises(RaveError, match="of your own, which rave cannot renew") as caught:
        certificates.renew("demo", now=True)
    assert caught.value.exit_code is ExitCode.USAGE
    assert certificates.renew("demo", issue=True).changed
    assert certificates.status("demo").kind == "issued"


@pytest.mark.parametrize(
    ("made", "code", "why"),
    [
        ((HOST, 91, 0o600), ExitCode.VERIFICATION, "ended on"),
        ((HOST, -2, 0o600), ExitCode.VERIFICATION, "begins on"),
        (("other.example", 0, 0o600), ExitCode.VERIFICATION, f"not for {HOST}"),
        ((HOST, 0, 0o644), ExitCode.SECRETS, "can be read by others"),
    ],
)
def test_what_cannot_be_shown_changes_nothing(
    named: Machine, tmp_path: Path, made: tuple[str, float, int], code: ExitCode, why: str
) -> None:
    before = certificate.stored(named)
    name, days, mode = made
    cert, key = own(tmp_path, name, days=days)
    key.chmod(mode)
    with pytest.raises(RaveError, match=why) as caught:
        certificates.install("demo", cert, key)
    assert caught.value.exit_code is code
    assert caught.value.hint
    assert certificate.stored(named) == before


def test_the_names_of_all_applications_must_be_covered(named: Machine) -> None:
    assert certificates.hosts(named)[0] == HOST
    assert f"auth.{HOST}" in certificates.hosts(named)


def test_a_guest_that_refuses_it_is_named_and_keeps_the_one_of_before(guest: Guest) -> None:
    shown = certificate.of(guest.machine)
    guest.fault = VerbRefusedError("demo", "certificate", Refusal("reload", "nginx is not active"))
    with pytest.raises(RaveError, match="nginx is not active") as caught:
        certificates.renew("demo", now=True)
    assert caught.value.exit_code is ExitCode.NOT_READY
    assert certificates.status("demo").shown == "another"
    guest.fault = None
    assert certificates.renew("demo").changed is False
    assert certificates.status("demo").shown == "this"
    assert certificate.of(guest.machine) != shown


def test_a_guest_that_says_it_took_it_and_shows_another_is_not_believed(guest: Guest) -> None:
    guest.deaf = True
    with pytest.raises(RaveError, match="its nginx shows another one"):
        certificates.renew("demo", now=True)


def test_taking_up_a_machine_that_runs_renews_what_is_due_and_else_asks_nothing(
    guest: Guest, told: list[Event]
) -> None:
    certificates.refresh(guest.machine, on_event=told.append)
    assert (guest.asked, told) == (0, [])
    ends_in(guest.machine, 20)
    certificates.refresh(guest.machine, on_event=told.append)
    assert guest.asked == 1
    assert [event.text for event in told] == ["machine demo shows a new certificate"]
    assert certificates.status("demo").shown == "this"


def test_whether_it_is_due_is_seen_without_asking_the_guest(guest: Guest) -> None:
    assert not certificates.due(guest.machine)
    ends_in(guest.machine, 20)
    assert certificates.due(guest.machine)
    assert guest.asked == 0


def test_what_goes_wrong_with_that_is_a_warning(guest: Guest, told: list[Event]) -> None:
    guest.fault = VerbRefusedError("demo", "certificate", Refusal("reload", "nginx is not active"))
    certificate.issue(guest.machine)
    certificates.refresh(guest.machine, on_event=told.append)
    (event,) = told
    assert event.kind == "warning"
    assert "nginx is not active" in event.text


def test_an_older_image_is_left_alone_and_named(guest: Guest, told: list[Event]) -> None:
    plan = parse(BAKED.read_bytes()).plan("demo", "debian")
    older = plan.model_copy(
        update={"secrets": {"tls/certificate": secret(kind="tls-certificate", key="tls/key")}}
    )
    carried.write(guest.machine.plan, carried.Carried(door=2, plan=older))
    certificate.issue(guest.machine)
    certificates.refresh(guest.machine, on_event=told.append)
    assert (guest.asked, told) == (0, [])
    for ask in (certificates.status, certificates.renew):
        with pytest.raises(RaveError, match="takes no certificate of its host's") as caught:
            ask("demo")
        assert caught.value.exit_code is ExitCode.USAGE


def test_one_by_acme_is_for_all_names_and_kept_as_your_own(
    named: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    now = datetime.now(UTC)

    def obtain(*words: Any, ca: object) -> authority.Issued:
        asked.append(words)
        return authority.issue(authority.make(HOST, now=now), HOST, now=now)

    monkeypatch.setattr("rave_cli.tls.acme.obtain", obtain)
    url = "https://ca.example.org/directory"
    assert run("install", "demo", "--acme", url, "--acme-agree")[0] == 0
    assert asked == [(url, certificates.hosts(named), ("127.0.0.1", 5002))]
    assert certificates.status("demo").kind == "installed"


@pytest.mark.parametrize("listen", ["5002", "localhost:5002", "127.0.0.1:0", "127.0.0.1:70000"])
def test_a_place_for_challenges_is_an_address_and_a_port(named: Machine, listen: str) -> None:
    with pytest.raises(RaveError, match="is not ADDRESS:PORT") as caught:
        certificates.obtain("demo", "https://ca.example.org", listen, ca=None)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    "words",
    [
        ["--acme", "https://x"], ["--cert", "a"], [], ["--acme", "https://x", "--cert", "a"],
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(named: Machine, words: list[str]) -> None:
    assert CliRunner().invoke(cli, ["tls", "install", "demo", *words]).exit_code == 2


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["tls", *words], catch_exceptions=False, standalone_mode=False)
    return done.return_value or 0, done.stdout


def test_the_commands_show_it(named: Machine, tmp_path: Path) -> None:
    code, said = run("status", "--json")
    assert (code, json.loads(said[said.index("[") :])[0]["name"]) == (ExitCode.CHECK_FAILED, "demo")
    cert, key = own(tmp_path)
    code, said = run("install", "demo", "--cert", str(cert), "--key", str(key))
    assert (code, "shows a new certificate from its next start on" in said) == (0, True)
    code, said = run("status", "demo")
    assert (code, "your own" in said) == (0, True)
    code, said = run("renew", "demo", "--issue", "--json")
    assert (code, json.loads(said)["changed"]) == (0, True)
    code, said = run("trust", "demo", "--json")
    assert (code, json.loads(said)["domain"]) == (0, HOST)


def test_a_key_comes_over_standard_input_and_is_in_no_argument(
    named: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, _ = own(tmp_path)
    seen: list[str] = []
    done = certificates.renew("demo", now=True)

    def install(_name: str, _cert: Path, key: Path) -> certificates.CertificateChange:
        seen.append(str(key))
        return done

    monkeypatch.setattr(certificates, "install", install)
    assert run("install", "demo", "--cert", str(cert), "--key", "-")[0] == 0
    assert seen == ["/dev/stdin"]
