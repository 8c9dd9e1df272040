"""`rave vm debug-bundle`: everything that is known of a machine, and nothing that is secret."""

from __future__ import annotations

import json
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import bundle, hiding
from rave_cli.flows.hiding import Hiding
from rave_cli.machines import certificate, lifecycle, store
from rave_cli.machines.guest import connection
from rave_cli.machines.qemu import accelerator
from rave_cli.process import Completed
from rave_cli.secrets import identity
from rave_cli.secrets import init as secrets_init
from rave_cli.secrets.store import default_file, open_values, read
from rave_cli.transcript import signing_key
from rave_cli.transcript.redaction import MARK, Redactor, forms
from tests.unit.machines.conftest import TCG, host, image, machine, plan, short_home, sshd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.flows.bundle import Bundle
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import FakeSshd

__all__ = ["host", "image", "machine", "plan", "short_home", "sshd"]

# What a guest or a service may let slip that no file of ours knows.
SLIPPED = (
    "hunter2-correct-horse", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyYXZlIn0.c2lnbmF0dXJl",
    "glpat-AbCdEfGhIjKlMnOpQrSt", "$6$rounds$Zm9vYmFyYmF6cXV4",
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ", "db-pass-in-a-url-77",
)  # fmt: skip
SAYS = f"""\
app: password={SLIPPED[0]} accepted
Authorization: Bearer {SLIPPED[1]}
token {SLIPPED[2]} used
root:{SLIPPED[3]}:19000:0:
-----BEGIN OPENSSH PRIVATE KEY-----
{SLIPPED[4]}
-----END OPENSSH PRIVATE KEY-----
connecting to postgresql://app:{SLIPPED[5]}@localhost/app
"""


@pytest.fixture(autouse=True)
def _known_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(accelerator, "detect", lambda **_: TCG)
    monkeypatch.chdir(tmp_path)


def made(place: Path | None = None) -> Bundle:
    return bundle.make("demo", place, on_event=lambda _event: None)


def content(done: Bundle) -> dict[str, str]:
    """Return the parts of an archive by their names in it."""
    with tarfile.open(done.place) as archive:
        return {
            member.name.partition("/")[2]: archive.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in archive.getmembers()
        }


class Talkative:
    """A guest that says of everything what it must not, and of its units that one failed."""

    def __init__(self, secrets: list[str]) -> None:
        self.secrets = secrets

    def run(self, argv: tuple[str, ...], *, timeout: float, sudo: bool) -> Completed:
        assert sudo
        assert timeout > 0
        if argv == bundle.FAILED:
            words = "nginx.service loaded failed failed nginx\n../../evil.service x\n"
        else:
            words = f"{argv}\n{SAYS}" + "".join(f"value {secret}\n" for secret in self.secrets)
        return Completed(argv, 0, words.encode(), b"")


@pytest.fixture
def planted(
    machine: Machine, plan: Plan, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch
) -> list[bytes]:
    """A running machine whose logs, records and guest hold every secret there is; returns them."""
    secrets_init.init(default_file(), plan.secrets)
    keys = identity.load()
    signing_key()
    secrets = [value.encode() for value in open_values(read(default_file()), keys).values.values()]
    secrets += [line for line in keys.text.splitlines() if line.startswith(b"AGE-SECRET-KEY")]
    secrets += [(machine.identity / name).read_bytes() for name in hiding.PRIVATE]
    secrets.append(machine.spec.instance_id.encode())
    secrets.append(certificate.of(machine).key.encode())
    lifecycle.start(machine, on_stage=lambda _stage: None)
    text = SAYS.encode() + b"".join(b"\x1b[1m" + secret + b"\x1b[0m\r\n" for secret in secrets)
    for place in (machine.console_log, machine.qemu_log, machine.stage_file, machine.known_hosts):
        with place.open("ab") as stream:
            stream.write(text)

    class Session:
        def __enter__(self) -> Talkative:
            return Talkative([secret.decode() for secret in secrets])

        def __exit__(self, *_fault: object) -> None:
            pass

    monkeypatch.setattr(connection, "connect", lambda _machine: Session())
    return secrets


def test_no_secret_that_is_known_or_looks_like_one_is_in_it(planted: list[bytes]) -> None:
    done = made()
    parts = content(done)
    whole = "\n".join(parts.values())
    assert len(planted) > 9
    for secret in planted:
        found = [form for form in forms(secret) if form in whole]
        assert found == [], found
    for slipped in SLIPPED:
        assert slipped not in whole, slipped
    assert done.redacted > len(planted)
    assert MARK in parts["machine/console.log"]
    assert MARK in parts["guest/journal/nginx.service.txt"]
    assert "\x1b" not in whole
    assert not any("identity" in name for name in parts)


def test_it_holds_what_is_known_of_a_running_machine(planted: list[bytes]) -> None:
    done = made()
    parts = content(done)
    for name in (
        "README.txt", "machine/machine.json", "machine/status.json", "machine/argv.txt",
        "machine/qmp.json", "machine/files.txt", "machine/image.json", "machine/run.json",
        "guest/units.txt", "guest/warnings.txt", "guest/journal/nginx.service.txt",
        "host/doctor.json", "host/facts.json", "host/machines.json",
    ):  # fmt: skip
        assert parts[name], name
    assert json.loads(parts["machine/status.json"])["state"] == "running"
    assert json.loads(parts["machine/machine.json"])["machine"]["name"] == "demo"
    assert "-uuid" in parts["machine/argv.txt"]
    assert {entry["id"] for entry in json.loads(parts["host/doctor.json"])} >= {"disk", "qemu"}
    # A unit's name is the guest's word, and becomes no path.
    assert not any("evil" in name for name in parts)
    assert done.place.stat().st_mode & 0o777 == 0o600
    assert done.document["parts"] == sorted(parts)


def test_a_machine_that_was_never_started_has_no_guest_part(machine: Machine) -> None:
    parts = content(made())
    assert json.loads(parts["machine/status.json"])["state"] == "stopped"
    assert not any(name.startswith("guest/") for name in parts)
    assert "machine/argv.txt" not in parts


def test_a_machine_whose_record_is_damaged_is_told_of_as_far_as_it_goes(machine: Machine) -> None:
    (machine.directory / store.RECORD).write_text("{ broken")
    machine.console_log.write_bytes(b"Kernel panic\n")
    done = made()
    parts = content(done)
    assert parts["machine/machine.json"] == "{ broken"
    assert parts["machine/console.log"] == "Kernel panic\n"
    assert "machine/status.json" in done.missing
    assert "damaged" in parts["machine/status.json"]


def test_a_guest_that_does_not_answer_leaves_the_reason(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.start(machine, on_stage=lambda _stage: None)

    def refuse(_machine: Machine) -> object:
        raise RaveError("no banner came", exit_code=ExitCode.NOT_READY)

    monkeypatch.setattr(connection, "connect", refuse)
    done = made()
    assert "no banner came" in content(done)["guest/unreachable.txt"]
    assert "guest/unreachable.txt" in done.missing


def test_a_guest_that_takes_too_long_is_asked_no_more(
    planted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "GUEST", -1.0)
    parts = content(made())
    assert "took more than" in parts["guest/units.txt"]


def test_its_size_is_bounded_whatever_a_guest_wrote(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.console_log.write_bytes(b"".join(b"line %d\n" % n for n in range(200_000)))
    machine.qemu_log.write_bytes(b"x" * 3_000_000)
    parts = content(made())
    console = parts["machine/console.log"]
    assert len(console) <= bundle.MOST_PART + 100
    assert console.startswith("(what was before this is left out)\nline ")
    assert console.endswith("line 199999\n")
    monkeypatch.setattr(bundle, "MOST", 100_000)
    assert sum(map(len, content(made(Path("small.tar.gz"))).values())) < 110_000


def test_secrets_that_cannot_be_opened_are_named_in_it(machine: Machine, plan: Plan) -> None:
    secrets_init.init(default_file(), plan.secrets)
    identity.key_file().unlink()
    identity.ensure()
    assert "only found by what they look like" in content(made())["README.txt"]


def test_an_archive_that_is_there_is_not_written_over(machine: Machine, tmp_path: Path) -> None:
    place = tmp_path / "mine.tar.gz"
    place.write_text("mine")
    with pytest.raises(RaveError, match="exists already") as caught:
        made(place)
    assert caught.value.exit_code is ExitCode.USAGE
    assert place.read_text() == "mine"


def test_a_machine_that_is_not_there_is_named(host: Host) -> None:
    with pytest.raises(RaveError, match="there is no machine 'demo'"):
        made()


def test_it_is_named_after_machine_and_time_in_the_working_directory(
    machine: Machine, tmp_path: Path
) -> None:
    done = made()
    assert done.place.parent == tmp_path
    assert done.place.name.startswith(f"rave-debug-demo-{time.strftime('%Y%m%d', time.gmtime())}")


@given(st.text(max_size=200))
def test_hiding_is_idempotent_and_leaves_plain_words(text: str) -> None:
    hidden = Hiding(Redactor())
    once = hidden.text(text)
    assert Hiding(Redactor()).text(once) == once


@pytest.mark.parametrize(
    "piece", ["x", "eyJ-", "-----BEGIN ", "secret=", "a://", "bearer ", "$6$", "password ", "a.b:"]
)
def test_no_guest_chooses_how_long_it_takes(piece: str) -> None:
    """A quadratic search would take hours for this; the time of a test ends it."""
    text = (piece * bundle.MOST_PART)[: 2 * bundle.MOST_PART]
    Hiding(Redactor()).text(text)


@pytest.mark.parametrize(
    "plain",
    [
        "Started nginx.service - A high performance web server.",
        "tokens: 5", "systemd[1]: Listening on ssh.socket", "https://127.0.0.1:8443/",
        "sha256-AAAA", "no password was asked for", "/run/secrets/redis/password",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(plain: str) -> None:
    assert Hiding(Redactor()).text(plain) == plain


@pytest.fixture
def unreadable(machine: Machine) -> Iterator[Machine]:
    machine.age_key.chmod(0o644)
    yield machine
    machine.age_key.chmod(0o600)


def test_a_key_that_others_can_read_is_named_and_still_not_in_it(unreadable: Machine) -> None:
    key = unreadable.age_key.read_bytes()
    unreadable.console_log.write_bytes(key)
    parts = content(made())
    assert str(unreadable.age_key) in parts["README.txt"]
    secret = next(line for line in key.decode().splitlines() if line.startswith("AGE-SECRET"))
    assert secret not in "".join(parts.values())
