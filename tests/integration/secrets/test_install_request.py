"""What leaves the operator's machine: only what the plan names, for one machine, on stdin."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import age
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import door, ssh
from rave_cli.process import Completed
from rave_cli.profiles.source import load_catalog
from rave_cli.secrets import identity, install, policy, sops, store
from rave_cli.secrets.init import init
from tests.unit.secrets.test_install import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.integration

CATALOG = load_catalog(None)
PLAN = CATALOG.plan("demo", "debian")
MACHINE = age.generate()


@pytest.fixture
def file(home: Path) -> Path:
    """The operator's file with every secret of the catalog."""
    place = home / "place/secrets.sops.yaml"
    init(place, CATALOG.secrets)
    return place


@dataclass
class Session:
    """Keeps what it is told to run, and answers as a guest would."""

    answer: Any
    calls: list[tuple[tuple[str, ...], bytes, bool]] = field(default_factory=list)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float, sudo: bool = False
    ) -> Completed:
        self.calls.append((tuple(argv), stdin, sudo))
        answer = {"v": 2, "ok": True, "answer": self.answer}
        return Completed(tuple(argv), 0, json.dumps(answer).encode(), b"")


@dataclass
class Machine:
    name: str
    age_key: Path
    spec: Any = field(default_factory=lambda: SimpleNamespace(image=SimpleNamespace(door=2)))


@pytest.fixture
def machine(home: Path) -> Machine:
    key = home / "age.key"
    key.write_bytes(MACHINE.file_text())
    key.chmod(0o600)
    return Machine("demo", key)


def test_the_request_holds_what_the_plan_names_and_nothing_else(file: Path) -> None:
    request = install.pack(PLAN, file, MACHINE)
    sealed = request.arguments["file"].encode()
    values = store.names_of(sops.decrypt(sealed, MACHINE.file_text(), output="json"))
    operator = store.open_values(file.read_bytes(), identity.load()).values
    assert values == {name: operator[name] for name in PLAN.secrets}
    assert set(values) < set(operator)
    assert request.warnings == ()


def test_the_operator_cannot_be_impersonated_with_it(file: Path) -> None:
    request = install.pack(PLAN, file, MACHINE).arguments
    assert request["identity"] == MACHINE.secret
    fault = sops.try_decrypt(request["file"].encode(), identity.load().text, output="json")
    assert isinstance(fault, sops.Fault)
    assert identity.load().identities[0].secret not in json.dumps(request)


def test_secrets_travel_on_standard_input_alone(file: Path, machine: Machine) -> None:
    session = Session(report())
    told: list[str] = []
    done = install.install(machine, PLAN, file, on_event=told.append, session=session)  # type: ignore[arg-type]
    ((argv, stdin, sudo),) = session.calls
    assert argv == door.ARGV
    assert sudo
    assert MACHINE.secret.encode() in stdin
    operator = store.open_values(file.read_bytes(), identity.load()).values
    shown = json.dumps([told, done.document(), argv, repr(done)])
    assert not any(value in shown for value in [*operator.values(), MACHINE.secret])
    assert done.seconds["total"] > 0
    assert told == ["checking the secrets file", f"sending {len(PLAN.secrets)} secrets to demo"]


def test_without_a_session_one_is_opened(
    file: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(report())

    @contextmanager
    def connect(_machine: Machine) -> Iterator[Session]:
        yield session

    monkeypatch.setattr(ssh, "connect", connect)
    install.install(machine, PLAN, file, on_event=lambda text: None)  # type: ignore[arg-type]
    assert len(session.calls) == 1


def test_a_refused_file_is_not_sent(file: Path, machine: Machine) -> None:
    file.write_text(file.read_text().replace('lastmodified: "20', 'lastmodified: "19'))
    session = Session(report())
    with pytest.raises(RaveError, match="is refused") as caught:
        install.install(machine, PLAN, file, on_event=lambda text: None, session=session)  # type: ignore[arg-type]
    assert caught.value.exit_code is ExitCode.SECRETS
    assert session.calls == []


def test_a_file_of_an_older_catalog_serves_a_smaller_plan(file: Path) -> None:
    keys = identity.load()
    production = CATALOG.plan("production", "nixos")
    later = next(name for name in production.secrets if name not in PLAN.secrets)
    values = dict(store.open_values(file.read_bytes(), keys).values)
    del values[later]
    allowed = policy.load(file)
    store.replace(file, store.seal(values, allowed, keys), allowed, new=())
    assert install.pack(PLAN, file, MACHINE).names == tuple(PLAN.secrets)
    with pytest.raises(RaveError, match=later):
        install.pack(production, file, MACHINE)


def test_a_machine_key_that_others_can_read_is_refused(file: Path, machine: Machine) -> None:
    machine.age_key.chmod(0o644)
    with pytest.raises(RaveError, match="can be read by others") as caught:
        install.install(machine, PLAN, file, on_event=lambda text: None)  # type: ignore[arg-type]
    assert caught.value.exit_code is ExitCode.SECRETS
