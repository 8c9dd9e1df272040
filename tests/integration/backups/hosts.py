"""The host's side with the real engine: a machine that sends what a test says."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
from base64 import b64decode, b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from rave_cli import settings as settings_of
from rave_cli.backups import parts as log
from rave_cli.flows import asking, backup, restore, restore_new, vault
from rave_cli.process import Completed
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_guest.refusal import Refused
from rave_guest.state import program, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

    from rave_cli.machines.guest.door import VerbRefusedError

INSTANCE = "6" * 32
# What was marked last, which is in each copy.
WRITTEN: dict[str, object] = {}


def content(size: int, seed: int = 1) -> bytes:
    """Data that no engine makes smaller."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - the same each time


# What the engine cuts by: irreducible, of degree 53. It cuts the content of these tests often.
POLYNOMIAL = "39b4d8bd685167"


ITEMS = {"redis": b"a few jobs", "postgresql": content(3 << 20)}


def at_home(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Let everything be below a directory."""
    patch.setenv("HOME", str(root))
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        patch.setenv(f"XDG_{name}_HOME", str(root / name))


def settle(repository: Path, password: str) -> None:
    """Let a repository's key be derived quickly, and content be cut at the same places each time.

    The engine takes half a second for the key on purpose, for passwords that people choose, and
    draws what it cuts by when a repository is made (restic's design, "Keys, Encryption and MAC"
    and "Backups and Deduplication").
    """
    (place,) = (repository / "keys").iterdir()
    key = json.loads(place.read_text())
    master = Box.of_password(password, key).open(b64decode(key["data"]))
    key |= {"N": 16, "r": 1, "p": 1}
    sealed = Box.of_password(password, key).seal(master)
    text = json.dumps(key | {"data": b64encode(sealed).decode()}).encode()
    place.unlink()
    (place.with_name(hashlib.sha256(text).hexdigest())).write_bytes(text)
    box, config = Box.of_master(json.loads(master)), repository / "config"
    found = json.loads(box.open(config.read_bytes())) | {"chunker_polynomial": POLYNOMIAL}
    config.chmod(0o600)
    config.write_bytes(box.seal(json.dumps(found).encode()))


@dataclass(frozen=True)
class Box:
    """AES-256-CTR with Poly1305-AES, as restic seals."""

    cipher: bytes
    k: bytes
    r: bytes

    @classmethod
    def of_password(cls, password: str, key: dict[str, Any]) -> Self:
        """Return what a password and the numbers of a key's file make."""
        derived = hashlib.scrypt(
            password.encode(), salt=b64decode(key["salt"]), n=key["N"], r=key["r"], p=key["p"],
            maxmem=1 << 30, dklen=64,
        )  # fmt: skip
        return cls(derived[:32], derived[32:48], derived[48:])

    @classmethod
    def of_master(cls, key: dict[str, Any]) -> Self:
        """Return what a repository's own key makes."""
        mac = key["mac"]
        return cls(b64decode(key["encrypt"]), b64decode(mac["k"]), b64decode(mac["r"]))

    def open(self, data: bytes) -> bytes:
        assert data[-16:] == self._mac(data[:16], data[16:-16])
        return self._run(data[:16], data[16:-16])

    def seal(self, text: bytes) -> bytes:
        nonce = os.urandom(16)
        data = self._run(nonce, text)
        return nonce + data + self._mac(nonce, data)

    def _run(self, nonce: bytes, data: bytes) -> bytes:
        return Cipher(algorithms.AES(self.cipher), modes.CTR(nonce)).encryptor().update(data)

    def _mac(self, nonce: bytes, data: bytes) -> bytes:
        one = Cipher(algorithms.AES(self.k), modes.ECB()).encryptor().update(nonce)  # noqa: S305
        return Poly1305.generate_tag(self.r + one, data)


def stream_of(items: dict[str, bytes], instance: str = INSTANCE) -> bytes:
    """What a guest sends."""
    out = io.BytesIO()
    write(wire.Writer(out), items, instance)
    return out.getvalue()


def write(writer: wire.Writer, items: dict[str, bytes], instance: str) -> None:
    writer.begin(instance)
    for service, data in items.items():
        writer.item(service, "data", [data])
    writer.whole()


@dataclass
class Spec:
    instance_id: str = INSTANCE
    profile: str = "demo"
    base: str = "debian"


def now() -> datetime:
    """The guest's clock."""
    return datetime.now(UTC)


@dataclass
class Log:
    """A log that grows by `more` with each fetch, and whether it goes on from what the host has."""

    size: int = 0
    chain: str = "0123456789abcdef"
    start: int = 0x3000028
    more: int = 3000
    now: datetime = field(default_factory=now)
    asked: list[dict[str, Any]] = field(default_factory=list)
    all: bytes = field(default_factory=lambda: content(200_000))

    @property
    def data(self) -> bytes:
        return self.all[: self.size]

    def sent(self, wanted: dict[str, Any], instance: str) -> bytes:
        self.asked.append(wanted)
        goes_on = wanted["chain"] == self.chain
        had = log.place_of(wanted["end"]) - self.start if goes_on else 0
        if goes_on:
            assert wanted["tail"] == hashlib.sha256(self.data[:had][-64:]).hexdigest()
        since, self.now = self.now, now()
        self.size += self.more
        facts = {
            "chain": self.chain, "timeline": 1, "segment": 16 << 20, "system": "7",
            "start": log.told(self.start + had), "end": log.told(self.start + self.size),
            "since": None if goes_on else since.strftime(log.TIME),
            "until": self.now.strftime(log.TIME),
        }  # fmt: skip
        out = io.BytesIO()
        writer = wire.Writer(out)
        writer.begin(instance)
        writer.item("postgresql", "log.json", [json.dumps(facts).encode()])
        writer.item("postgresql", "log", [self.data[had:]])
        writer.whole()
        return out.getvalue()


@dataclass
class Machine:
    """A machine whose guest sends `sent`, and takes what it is given as the real one does."""

    name: str = "dev"
    spec: Spec = field(default_factory=Spec)
    sent: bytes = b""
    said: bytes = b""
    taken: dict[str, bytes] = field(default_factory=dict)
    log: Log | None = None
    refusal: VerbRefusedError | None = None
    before_piece: Callable[[int], None] = lambda _at: None
    size: int = 1 << 20
    answers: bool = False  # whether it sends `items` as it is asked, instead of `sent`
    items: dict[str, bytes] = field(default_factory=dict)
    on_the_way: int = 0
    status: ClassVar[str] = '{"state": "healthy"}'
    told: dict[str, int] = field(default_factory=dict)
    marked: dict[str, object] = field(default_factory=dict)

    def run(self, argv: tuple[str, ...], *, timeout: float) -> Completed:
        assert (argv, timeout) == (restore_new.STATUS, restore_new.ANSWERS)
        return Completed(argv, 0, self.status.encode(), b"")

    def call(self, verb: str, arguments: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        assert verb == "state"
        if self.refusal is not None:
            raise self.refusal
        if "marks" in arguments:
            return {"marks": self._marks(arguments["marks"])}
        assert timeout == backup.ANSWERS
        if "kept" in arguments:
            self.told = arguments["kept"]
            return {"kept": True}
        return {"services": {"redis": self.size}, "freeBytes": 1 << 40, "log": self.log is not None}

    def _marks(self, wanted: dict[str, Any]) -> dict[str, object]:
        """The marks of a machine: those that it was given, or that it was made with."""
        if "put" in wanted:
            lines = hashlib.sha256(wanted["put"].encode()).hexdigest()
            self.marked = {"redis": {"count": 64, "sha256": lines}}
            WRITTEN.update(self.marked)
        if "remove" in wanted:
            self.marked = {}
        return self.marked if "read" not in wanted else dict(WRITTEN)

    def stream(
        self, argv: tuple[str, ...], *, stdin: int, on_output: Callable[[int, bytes], None],
        timeout: float, sudo: bool,
    ) -> int:  # fmt: skip
        assert (argv, timeout, sudo) == (asking.PROGRAM, asking.LONGEST, True)
        given = os.fdopen(os.dup(stdin), "rb")
        with given:
            request = given.readline()
            if b'"log"' in request:
                assert self.log is not None
                on_output(1, self.log.sent(program.parse(request)[1], self.spec.instance_id))
                return 0
            if b'"keep"' in request and self.answers:
                self._keep(request, on_output)
                return 0
            if b'"keep"' in request:
                for at in range(0, len(self.sent), 1 << 16):
                    self.before_piece(at)
                    on_output(1, self.sent[at : at + (1 << 16)])
                if self.said:
                    on_output(2, self.said)
                return 0
            return self._put(given, on_output)

    def _keep(self, request: bytes, on_output: Callable[[int, bytes], None]) -> None:
        _, arguments = program.parse(request)
        out = io.BytesIO()
        known, nonce = arguments["known"], arguments["nonce"]
        writer = wire.Writer(out, known=known, nonce=nonce)
        write(writer, self.items, self.spec.instance_id)
        self.on_the_way = len(out.getvalue())
        on_output(1, out.getvalue())

    def _put(self, given: Any, on_output: Callable[[int, bytes], None]) -> int:
        taken: dict[str, bytes] = {}
        try:
            for item in wire.read(given):
                name = item.service if item.name == "data" else item.name
                taken[name] = b"".join(item.pieces)
        except Refused as error:
            on_output(1, b'{"v":2,"ok":false,"stage":"%s","error":"%s"}' % (
                error.stage.encode(), str(error).encode()))  # fmt: skip
            return 1
        self.taken = taken
        names = ",".join(f'"{name}"' for name in taken)
        on_output(1, f'{{"v":2,"ok":true,"answer":{{"services":[{names}]}}}}'.encode())
        return 0


@dataclass
class Host:
    """This host: its folder of backups, its machine, and what was told."""

    home: Path
    machine: Machine
    told: list[Any] = field(default_factory=list)

    @property
    def settings(self) -> settings_of.Settings:
        return settings_of.load(start=self.home)

    @property
    def folder(self) -> Path:
        return vault.folder(self.settings)

    def now(self) -> backup.BackedUp:
        return backup.now("dev", self.settings, on_event=self.told.append)

    def restore(self, wanted: str = "latest", **more: Any) -> restore.RestoredBackup:
        return restore.into("dev", wanted, self.settings, on_event=self.told.append, **more)

    def verify(self, *, everything: bool = True) -> vault.VerifiedBackups:
        return vault.verify(None, self.settings, everything=everything, on_event=self.told.append)

    def names(self) -> list[str]:
        return [one.name for one in vault.listed(self.settings).backups]


def host_with(machine: Machine, home: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Let the flows find this machine."""
    plan = parse(BAKED.read_bytes()).plan("demo", "debian")

    @contextmanager
    def connect(_machine: object) -> Iterator[Machine]:
        yield machine

    for module in ("backup", "restore"):
        place = f"rave_cli.flows.{module}"
        monkeypatch.setattr(f"{place}.store.load", lambda _name: machine)
        monkeypatch.setattr(f"{place}.connection.connect", connect)
    monkeypatch.setattr("rave_cli.flows.backup.store.plan", lambda _machine: plan)
    monkeypatch.setattr("rave_cli.flows.backup.Door.of", lambda _machine, _session: machine)
    return Host(home, machine)
