"""A guest that stands still until it is told which machine it is.

From one booted machine, a template, others are started by copying its memory. `hold` readies it for
that and freezes every program but this one, PID 1 included. In a copy nothing has run, then, when
`become` gives it what makes a machine itself: randomness of the host's before all else, then time,
names and keys. Only after that do the others go on. Whatever fails before leaves them frozen.

Under emulation the others take seconds of a processor to go on. A host that is going to run
programs at once says so: then the command channel has them wait until it has a moment to spare.
One that is going to pause the machine before it does has them wait for `wake` alone.

Called by the command channel's own process, which is awake in the copy with all of this loaded: no
program could be started meanwhile. What the kernel drew when it booted stays the template's: boot
id, hash seeds, address layout of what runs (docs/explanation/warm-start.md).

Sources: the kernel's cgroup-v2.rst (cgroup.freeze), mount(2), netdevice(7), machine-id(5).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import socket
import struct
import time
import uuid
from binascii import a2b_base64
from collections import namedtuple
from contextlib import suppress

from rave_guest import plan, report, resumed, tls
from rave_guest.manager import Manager
from rave_guest.refusal import Refused
from rave_guest.report import ORIGIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

CGROUPS = "/sys/fs/cgroup"
SERVICES = "system.slice"
PID1 = "init.scope"
OURS = "rave-command.service"  # the one that stays awake
WATCHER = "rave-ready.service"
JOURNAL_UNIT = "systemd-journald.service"

CREDENTIALS = "/run/credentials/@system"
HOST_KEY, AGE_KEY = "rave.ssh-host-key", "rave.age-key"
INSTANCE_ID, AUTHORIZED_KEY = "rave.instance-id", "rave.authorized-key"
ORIGIN_CREDENTIAL = "rave.origin"
TLS_CREDENTIALS = ("rave.tls-key", "rave.tls-certificate")
AUTHORIZED = "/run/rave/ssh/authorized_keys"
EXPORTER = "/run/rave/redis/exporter.env"
MACHINE_ID, HOSTS = "/etc/machine-id", "/etc/hosts"
JOURNAL = "/var/log/journal"
SEED = "/var/lib/systemd/random-seed"
INTERFACE = "eth0"
# The first sector says whose the data disk is (infra/debian/initrd/init.c).
DATA_DISK, LABEL, SECTOR = "/dev/vdb", "rave-data 1 {}\n", 512

# linux/mount.h, linux/sockios.h, linux/if_arp.h
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND = 1, 2, 4, 8, 32, 4096
SIOCSIFHWADDR, ARPHRD_ETHER = 0x8924, 1

STOPS = 15.0  # seconds for the services to stop
FREEZES = 10.0  # seconds for every program to stand still
LOOK = 0.01
LONGEST_KEY = 16 << 10  # bytes

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
HEX_ID = re.compile(r"[0-9a-f]{32}")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# None, or as rave_cli/machines/public.py keeps it.
PUBLIC = re.compile(r"(https://[a-z0-9.-]{1,253}(:[0-9]{1,5})?)?")


class Selfhood(
    namedtuple(
        "Selfhood",
        (
            "entropy",
            "now",
            "instance",
            "machine_id",
            "hostname",
            "mac",
            "origin",
            "credentials",
            "certificate",
        ),
    )
):
    """What makes a machine itself: 32 to 512 bytes of entropy, seconds since 1970 UTC, names, the
    address of its network card, its public origin (empty: none), its credentials by name, and the
    key and chain of the certificate of its pages; None of an older rave, and then it makes one
    itself.
    """

    __slots__ = ()
    entropy: bytes
    now: float
    instance: str
    machine_id: str
    hostname: str
    mac: str
    origin: str
    credentials: dict[str, bytes]
    certificate: tuple[str, str] | None


class Standstill:
    """Everything that stands still in this machine, and what makes it go on."""

    def __init__(self, manager: Manager) -> None:
        """Nothing does yet."""
        self._manager = manager
        self._frozen: list[str] = []
        self._renewed: list[str] = []

    def begin(self) -> dict[str, Any]:
        """Stop what is renewed and freeze the rest; tells what was stopped and how many groups
        stand still.

        Raises:
            Refused: something does not stop or stand still; everything goes on then.
        """
        services = plan.own()["services"].values()
        # What they drew when they started would be the same in every copy.
        drawing = [service for service in services if service.get("drawnAtStart")]
        self._renewed = [unit for service in drawing for unit in service["units"]]
        try:
            # First: to it, services that stop look as if they had failed.
            self._freeze([f"{CGROUPS}/{SERVICES}/{WATCHER}"])
            self._stop()
            _remove(SEED)
            os.sync()
            # PID 1 starts no more programs then, so that the list of the others is whole.
            self._freeze([f"{CGROUPS}/{PID1}"])
            self._freeze(_groups())
            # Whoever ends this may be a copy of this process, which needs a connection of its own.
            self._manager.close()
        except BaseException:
            self.thaw()
            self._manager.order(*(("StartUnit", unit) for unit in self._renewed))
            raise
        return {"stopped": self._renewed, "frozen": len(self._frozen)}

    def over(self) -> bool:
        """Whether PID 1 goes on: a copy of this process may have seen to that."""
        return not _stands(f"{CGROUPS}/{PID1}")

    def end(self, restarted: Iterable[str] = ()) -> None:
        """Let everything go on, with the journal, the services and the watcher taking up what is
        new, and the units `restarted` what they read when they start.
        """
        # PID 1 by itself: it takes its orders while nothing else wants a processor, and before the
        # watcher is awake, to which a service that is down without a job looks as if it had failed.
        self.thaw([f"{CGROUPS}/{PID1}"])
        orders = [("RestartUnit", JOURNAL_UNIT), *(("StartUnit", unit) for unit in self._renewed)]
        orders += [("RestartUnit", unit) for unit in restarted if unit not in self._renewed]
        try:
            self._manager.order(*orders)
        finally:
            self._manager.close()
            self.thaw()

    def thaw(self, groups: Iterable[str] | None = None) -> None:
        """Let some groups go on, or everything."""
        for group in list(self._frozen if groups is None else groups):
            # PID 1 removes the group of a service that has ended, as of one that is restarted.
            with suppress(FileNotFoundError):
                _write(f"{group}/cgroup.freeze", "0")
            self._frozen.remove(group)

    def _stop(self) -> None:
        self._manager.order(*(("StopUnit", unit) for unit in self._renewed))
        until = time.monotonic() + STOPS
        while True:
            states = self._manager.states(self._renewed)
            left = [unit for unit, state in states.items() if state not in ("inactive", "failed")]
            if not left:
                return
            if time.monotonic() > until:
                raise Refused("stop", f"{', '.join(left)} did not stop within {STOPS:g} s")
            time.sleep(LOOK)

    def _freeze(self, groups: Iterable[str]) -> None:
        wanted = [group for group in groups if group not in self._frozen]
        for group in wanted:
            self._frozen.append(group)
            _write(f"{group}/cgroup.freeze", "1")
        until = time.monotonic() + FREEZES
        while moving := [group for group in wanted if not _stands(group)]:
            if time.monotonic() > until:
                raise Refused("freeze", f"{', '.join(moving)} still moves after {FREEZES:g} s")
            time.sleep(LOOK)


# The one standstill of this process: `hold` begins it, and in each copy `become` ends it, or lets
# `go_on` do so.
_now: list[Standstill] = []
_over: list[Standstill] = []


def hold(_arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Ready this machine to be copied.

    Raises:
        Refused: it stands still already, or something does not; everything goes on then.
        OSError: as opening files does; so too.
    """
    if _now or _over:
        raise Refused("request", "this machine stands still already")
    # Only here: a machine that is no template never needs it.
    from rave_guest import door

    door.load()
    standstill = Standstill(Manager())
    told = standstill.begin()
    _now.append(standstill)
    return told


def become(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Make this copy a machine of its own and let it go on, or have `go_on` called for that if the
    host `runs` programs next; tells by how many seconds its clock was behind.

    Raises:
        Refused: it does not stand still, or the request is none; nothing has happened then.
        OSError: a step failed; it goes on standing still.
    """
    if not _now:
        raise Refused("request", "this machine does not stand still")
    behind = put_on(asked(arguments))
    _over.append(_now.pop())
    if arguments.get("runs") is not True:
        go_on()
    return {"behind": behind}


def waits() -> bool:
    """Return whether all that stood still has yet to go on."""
    return bool(_over)


def go_on(restarted: Iterable[str] = ()) -> bool:
    """Let everything go on that stood still, if that has not happened yet, with the units
    `restarted` started anew; returns whether this was what did it.

    Raises:
        OSError, ManagerError: PID 1 does not take its orders; all goes on but what was stopped.
    """
    while _over:
        standstill = _over.pop()
        if not standstill.over():
            standstill.end(restarted)
            return True
    return False


def wake(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Take new randomness and the time, in a machine that is itself, was paused since, and in which
    the others stand still yet; tells by how many seconds its clock was behind.

    Raises:
        Refused: nothing waits here, or the request is none.
    """
    if not _over:
        raise Refused("request", "nothing waits in this machine to be woken")
    return resumed.verb(arguments)


VERBS = {"hold": hold, "become": become, "wake": wake}


def asked(arguments: Mapping[str, Any]) -> Selfhood:
    """Take a request apart.

    Raises:
        Refused: it lacks something, or something in it is not what it should be.
    """
    entropy, now = resumed.asked(arguments)
    texts = {}
    for name, rule in (
        ("instance", NAME), ("machine_id", HEX_ID), ("hostname", NAME), ("mac", MAC),
        ("origin", PUBLIC),
    ):  # fmt: skip
        value = arguments.get(name, "" if name == "origin" else None)
        if not isinstance(value, str) or rule.fullmatch(value) is None:
            raise Refused("request", f"`{name}` is not as it should be")
        texts[name] = value
    given = arguments.get("credentials")
    if not isinstance(given, dict) or set(given) != {HOST_KEY, AGE_KEY, AUTHORIZED_KEY}:
        raise Refused("request", "`credentials` is to hold a host key, a login key and an age key")
    credentials = {name: _decoded(name, text) for name, text in given.items()}
    credentials[INSTANCE_ID] = texts["instance"].encode()
    credentials[ORIGIN_CREDENTIAL] = f"{texts['origin']}\n".encode()
    shown = tls.asked(arguments["certificate"]) if "certificate" in arguments else None
    if shown is not None:
        credentials |= zip(TLS_CREDENTIALS, map(str.encode, shown), strict=True)
    return Selfhood(entropy=entropy, now=now, credentials=credentials, certificate=shown, **texts)


def put_on(own: Selfhood) -> float:
    """Make all of this machine's own; return by how many seconds its clock was behind."""
    resumed.reseed(own.entropy)
    behind = own.now - time.time()
    time.clock_settime(time.CLOCK_REALTIME, own.now)
    hand_over(own.credentials)
    report.write(report.INSTANCE, f"{own.instance}\n")
    report.write(ORIGIN, f"{own.origin}\n")
    report.write(AUTHORIZED, own.credentials[AUTHORIZED_KEY].decode())
    name_journal(report.read(MACHINE_ID), own.machine_id)
    report.write(MACHINE_ID, f"{own.machine_id}\n")
    label_data(own.machine_id)
    socket.sethostname(own.hostname)
    report.write(HOSTS, f"127.0.0.1 localhost\n127.0.1.1 {own.hostname}\n")
    set_mac(own.mac)
    if os.path.isdir(tls.PLACE):
        tls.clear()
        if own.certificate is not None:
            tls.put(*own.certificate)
    if os.path.exists(EXPORTER):
        word = uuid.UUID(bytes=os.urandom(16), version=4)
        _private(EXPORTER, f"REDIS_USER=exporter\nREDIS_PASSWORD={word}\n".encode(), 0o600)
    return behind


def hand_over(credentials: Mapping[str, bytes]) -> None:
    """Put these in the place of the credentials that the machine booted with. systemd keeps them on
    a read-only mount of their own.
    """
    _remount(CREDENTIALS, writable=True)
    for name, value in credentials.items():
        _private(f"{CREDENTIALS}/{name}", value, 0o400)
    _remount(CREDENTIALS, writable=False)


def name_journal(before: str, now: str) -> None:
    """Let the journal's directory, which bears the machine's id, be found by the new one, too.

    It keeps its place: who follows the journal (fail2ban) drops a directory that is moved, and by
    the id that it has read once takes no other for its own.
    """
    if os.path.isdir(f"{JOURNAL}/{before}") and not os.path.lexists(f"{JOURNAL}/{now}"):
        os.symlink(before, f"{JOURNAL}/{now}")


def label_data(machine_id: str) -> None:
    """Say on the data disk, if there is one, whose it is now. Its file system is mounted, and keeps
    that sector as it is; until it is written, the host knows that it was the template's.
    """
    if not os.path.exists(DATA_DISK):
        return
    fd = os.open(DATA_DISK, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, LABEL.format(machine_id).encode().ljust(SECTOR, b"\0"), 0)
    finally:
        os.close(fd)


def set_mac(address: str) -> None:
    """Give the network card its own address."""
    raw = bytes.fromhex(address.replace(":", ""))
    request = struct.pack("16sH14s", INTERFACE.encode(), ARPHRD_ETHER, raw)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFHWADDR, request)


def _groups() -> list[str]:
    """Return the control groups that hold every program but ours."""
    found = [_children(CGROUPS), _children(f"{CGROUPS}/{SERVICES}")]
    ours = {f"{CGROUPS}/{SERVICES}", f"{CGROUPS}/{SERVICES}/{OURS}"}
    return [group for groups in found for group in groups if group not in ours]


def _children(group: str) -> list[str]:
    return [entry.path for entry in os.scandir(group) if entry.is_dir(follow_symlinks=False)]


def _stands(group: str) -> bool:
    return "frozen 1" in report.read(f"{group}/cgroup.events").splitlines()


def _remount(place: str, *, writable: bool) -> None:
    flags = _REMOUNT | _BIND | _NOSUID | _NODEV | _NOEXEC | (0 if writable else _RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, place.encode(), None, flags, None):
        raise OSError(ctypes.get_errno(), f"cannot remount {place}")


def _private(path: str, data: bytes, mode: int) -> None:
    _remove(f"{path}.new")
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _decoded(name: str, text: object) -> bytes:
    try:
        data = a2b_base64(text, strict_mode=True) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    if not 0 < len(data) <= LONGEST_KEY:
        raise Refused("request", f"the credential {name} is not base64 of a key")
    return data
