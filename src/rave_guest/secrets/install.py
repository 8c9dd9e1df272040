"""The verb secrets-install: from the encrypted file to services that use what is in it.

Arguments {"identity", "file"}: an age secret key and a SOPS file. The secrets of the plan are put
in force, what uses them is restarted and has to prove that it took them, and the encrypted file is
kept for the next boot. The answer holds no value. If any step fails, the secrets that were in force
before are in force again.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import suppress

from rave_guest.manager import Manager
from rave_guest.proof import Unproven
from rave_guest.refusal import Refused
from rave_guest.secrets import generations, store
from rave_guest.secrets.decryption import decrypting, entries, last_line, undumpable
from rave_guest.secrets.placement import Direct, SopsNix
from rave_guest.secrets.places import HERE, Places, locked, read_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.secrets.placement import Placement
    from rave_guest.secrets.proofs import SecretChange

EMPTY: Mapping[str, Any] = {}
TIMEOUT = 45.0  # seconds for systemctl, beyond the deadline of what it starts
LOOK = 0.1  # seconds between two looks at what starts
UNDER_WAY = frozenset(("activating", "deactivating", "queued", "reloading", "restarting"))


class InstallRequest(namedtuple("InstallRequest", ("identity", "file"))):
    """The machine's age identity, and the SOPS file that it opens."""

    __slots__ = ()
    identity: bytes
    file: bytes


def verb(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Install secrets in this guest; see `install`."""
    undumpable()
    # So that an installation that is told to end takes itself back first.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    return install(HERE, arguments)


def install(places: Places, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Do what the verb does and return its answer.

    Raises:
        Refused: what was in force before is in force.
    """
    try:
        request = parse(arguments)
        with locked(places):
            answer = _install(places, request, _Clock())
    except (Refused, OSError) as error:
        stage = error.stage if isinstance(error, Refused) else "system"
        raise Refused(stage, f"{error}; what was in force before is still in force") from error
    _tell(len(answer["secrets"]))
    return answer


def parse(arguments: Mapping[str, Any]) -> InstallRequest:
    """Read the arguments.

    Raises:
        Refused: they are not an age identity and a text.
    """
    if set(arguments) != {"identity", "file"}:
        raise Refused("request", "an installation takes identity and file, and nothing else")
    identity, file = arguments["identity"], arguments["file"]
    if not isinstance(identity, str) or not isinstance(file, str):
        raise Refused("request", "identity and file must be text")
    if not re.fullmatch(r"AGE-SECRET-KEY-1[0-9A-Z]{58}", identity.strip()):
        raise Refused("request", "the identity is not an age secret key")
    return InstallRequest(identity.strip().encode() + b"\n", file.encode())


class _Installation(
    namedtuple("_Installation", ("places", "plan", "entries", "before", "changed"))
):
    """What is to be in force, what was, and the names that differ."""

    __slots__ = ()
    places: Places
    plan: Mapping[str, Any]
    entries: Mapping[str, generations.SecretFile]
    before: Mapping[str, bytes]
    changed: list[str]

    def take_over(self, clock: _Clock) -> tuple[list[str], list[dict[str, Any]]]:
        """Restart what uses the changed secrets, but for services that take them while they run,
        and prove it; return the units and the proofs.

        Where nothing changed but a service does not take what is in force (an installation was
        killed half way, or somebody changed a password by hand), everything is restarted once.
        """
        from rave_guest.secrets import proofs, renewal

        taken = renewal.take(self.plan, self.changed, self._change())
        units = self.refresh(self.changed, taken)
        renewal.forget(taken)
        clock.lap("refresh")
        try:
            proven = self._prove(proofs.PATIENCE if units or taken else proofs.AT_REST)
        except Unproven:
            if units or taken:
                raise
            units = self.refresh(list(self.entries))
            proven = self._prove(proofs.PATIENCE)
        clock.lap("prove")
        return units, proven

    def take_back(self, placement: Placement) -> None:
        """Put in force what was before, as far as that can be done."""
        with suppress(Refused, OSError):
            placement.take_back()
            self.refresh(self.changed)

    def refresh(self, names: list[str], taken: Mapping[str, Any] = EMPTY) -> list[str]:
        """Restart what uses these secrets; systemd orders the units among themselves. `taken`:
        those that their own service has taken already (renewal.py).
        """
        from rave_guest.secrets import renewal

        secrets = self.plan["secrets"]
        units = renewal.units(self.plan, names, taken)
        if units and not _go_on_with(units, self._deadline(units)):
            _restart(self.places, units, self._deadline(units))
        # Units that may take minutes to start, and that no proof asks.
        later = dict.fromkeys(unit for name in names for unit in secrets[name].get("later", ()))
        if later:
            _restart(self.places, ["--no-block", *later])
        return [*units, *later]

    def _deadline(self, units: list[str]) -> float:
        """Return the longest deadline among the services of these units, in seconds."""
        services = self.plan["services"].values()
        known = [s["deadlineSeconds"] for s in services if not set(units).isdisjoint(s["units"])]
        return float(max(known, default=0))

    def _prove(self, patience: float) -> list[dict[str, Any]]:
        from rave_guest.secrets import proofs

        return proofs.prove(self.plan, self._change(), patience)

    def _change(self) -> SecretChange:
        from rave_guest.secrets import proofs

        values = {name: entry.value for name, entry in self.entries.items()}
        return proofs.SecretChange(values, self.before)


def _install(places: Places, request: InstallRequest, clock: _Clock) -> dict[str, Any]:
    kept_key = _key_to_keep(places, request)
    with decrypting(places.sops, *request) as decrypted:
        # Importing takes a while under emulation, and sops works on another processor.

        plan = read_plan(places)
        wanted = entries(plan, decrypted())
    clock.lap("decrypt")
    before = generations.read(generations.current(places.generations))
    changed = sorted(name for name in wanted if before.get(name) != wanted[name].value)
    stale = bool(changed or set(before) - set(wanted))
    keeping = _Keeping(places.store, kept_key, request.file)
    placement = _placement(places, keeping, plan["base"], wanted, stale=stale)
    installation = _Installation(places, plan, wanted, before, changed)
    settled = False
    try:
        placement.put()
        clock.lap("write")
        units, proven = installation.take_over(clock)
        keeping.keep(unchanged=not changed)
        settled = True
    except Unproven as error:
        raise Refused("prove", str(error)) from error
    finally:
        # However this ends: half of an installation must not stay.
        if not settled:
            installation.take_back(placement)
    placement.settle()
    clock.lap("keep")
    return {
        "changed": changed,
        "secrets": [_placed(places.generations.link, name) for name in wanted],
        "refreshed": units,
        "proofs": proven,
        "seconds": clock.laps,
    }


class _Keeping(namedtuple("_Keeping", ("directory", "key", "file"))):
    """What is to outlive a reboot, and where. `key` is None where the host hands it over."""

    __slots__ = ()
    directory: str
    key: bytes | None
    file: bytes

    def keep(self, *, unchanged: bool) -> None:
        """Keep it; `unchanged`: the file kept already decrypts to the same values."""
        from rave_guest import report

        store.keep(
            self.directory, self.key, self.file, unchanged=unchanged, instance=report.instance()
        )

    def before(self) -> store.KeptSecrets:
        """Return what is kept now. An identity that need not be there does not come back."""
        kept = store.kept(self.directory)
        return kept if self.key is not None else store.KeptSecrets(None, kept.file)


def _key_to_keep(places: Places, request: InstallRequest) -> bytes | None:
    """Return the identity if the host did not hand it over at this boot.

    Raises:
        Refused: the host handed over another one, with which the next boot could open nothing.
    """
    handed = store.handed(places.handed)
    if handed is None:
        return request.identity
    # It is a key file, so it may have comments.
    if request.identity.strip() not in handed.split():
        raise Refused(
            "request",
            "this machine was started with another age identity; stop it and start it again",
        )
    return None


def _placement(
    places: Places,
    keeping: _Keeping,
    base: str,
    wanted: Mapping[str, generations.SecretFile],
    *,
    stale: bool,
) -> Placement:
    """Return how this base puts secrets in force. `stale`: what is in force differs."""
    if base == "nixos":
        return SopsNix(
            places.generations,
            keeping.before(),
            keep=lambda: keeping.keep(unchanged=False),
            restore=lambda before: store.restore(places.store, before),
            restart=lambda unit: _restart(places, [unit]),
        )
    return Direct(places.generations, wanted, stale=stale)


def _go_on_with(units: list[str], deadline: float) -> bool:
    """Let a machine go on that stood still until now (held.py), and these units start with the
    rest; wait until they run. Returns False where nothing stood still.
    """
    # Loaded by the command channel alone, and only where there is something to go on.
    held = sys.modules.get("rave_guest.held")
    if held is None or not held.go_on(units):
        return False
    manager, until = Manager(), time.monotonic() + TIMEOUT + deadline
    while True:
        states = manager.states(units)
        # It tells whoever is there of each change.
        manager.close()
        if failed := [unit for unit, state in states.items() if state == "failed"]:
            raise Refused("refresh", f"a service does not start: {', '.join(failed)} failed")
        if not UNDER_WAY.intersection(states.values()):
            return True
        if time.monotonic() > until:
            raise Refused("refresh", f"services did not start within {TIMEOUT + deadline:g} s")
        time.sleep(LOOK)


def _restart(places: Places, units: list[str], deadline: float = 0.0) -> None:
    """Restart units and wait until they run; `deadline`: seconds that the slowest may take."""
    patience = TIMEOUT + deadline
    try:
        done = subprocess.run(
            [places.systemctl, "restart", *units],
            capture_output=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused("refresh", f"services did not start within {patience:g} s") from error
    if done.returncode:
        raise Refused("refresh", f"a service does not start: {last_line(done.stderr)}")


def _placed(link: str, name: str) -> dict[str, str]:
    """Describe a secret in force by name, owner and mode."""
    import grp
    import pwd

    path = f"{link}/{name}"
    found = os.stat(path)
    return {
        "name": name,
        "path": path,
        "owner": pwd.getpwuid(found.st_uid).pw_name,
        "group": grp.getgrgid(found.st_gid).gr_name,
        "mode": f"{found.st_mode & 0o7777:04o}",
    }


def _tell(count: int) -> None:
    from rave_guest import report

    report.send("secrets", state="installed", count=count)


class _Clock:
    """Seconds per step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End the step `name`."""
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
