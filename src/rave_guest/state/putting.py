"""Puts back what was kept. What is there now is put aside first, and comes back if anything fails.

    ROOT/received/SERVICE/ITEM   what the host sends, until all of it is there
    ROOT/ready/SERVICE           made of that, to take the place of the service's own directory
    ROOT/previous/SERVICE        what was there before
    ROOT/journal.json            as long as it is there, `previous` is what counts

A restore that is killed leaves the journal: whoever comes next takes it back first.
"""

from __future__ import annotations

import json
import os
import shutil
import time

from rave_guest import ready, registry
from rave_guest.questions import Round
from rave_guest.refusal import Refused
from rave_guest.state import keeping, wire
from rave_guest.system import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO

    Plan = Mapping[str, Any]

ROOT = "/var/lib/rave/restore"
STOPS = 60.0  # seconds for units to stop, and beyond their deadline to start
# Bytes that a service takes in of what was put back within a second at least, when it starts.
TAKES = 256 << 10


class Units:
    """The units of this machine."""

    def stop(self, names: list[str]) -> None:
        """Stop units, and wait for it.

        Raises:
            Refused: they do not.
        """
        self._systemctl("stop", names, STOPS)

    def start(self, names: list[str], seconds: float) -> None:
        """Start units, those that are up anew, and wait for it.

        Raises:
            Refused: they do not.
        """
        self._systemctl("restart", names, seconds + STOPS)

    def _systemctl(self, verb: str, names: list[str], seconds: float) -> None:
        if not names:
            return
        try:
            done = run(["systemctl", verb, "--", *names], seconds)
        except TimeoutError as error:
            raise Refused("services", str(error)) from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it says nothing"]
            raise Refused("services", f"systemctl {verb}: {said[-1]}")


class Restore:
    """One restore of a plan's services."""

    def __init__(self, plan: Plan, root: str = ROOT, units: Units | None = None) -> None:
        self.plan, self.root, self.units = plan, root, units or Units()
        self.states = keeping.kept(plan)
        self.journal = f"{root}/journal.json"
        self.troubled: list[str] = []  # whoever does not start with what was put back for another

    def take(self, stream: BinaryIO, only: list[str]) -> list[str]:
        """Put back what a stream holds, of the services `only` (none: of all); returns which.

        Raises:
            Refused: what was there before is there.
        """
        self.recover()
        try:
            names = self._receive(stream, only)
            for name in names:
                self._prepare(name)
            self._swap(names)
        finally:
            if not os.path.exists(self.journal):
                self._forget()
        return names

    def recover(self) -> bool:
        """Take back what a restore left that was killed; returns whether there was one."""
        left = os.path.exists(self.journal)
        if left:
            with open(self.journal, encoding="utf-8") as stream:
                self._take_back(json.load(stream)["services"])
        self._forget()
        return left

    def _receive(self, stream: BinaryIO, only: list[str]) -> list[str]:
        names: list[str] = []
        for item in wire.read(stream):
            wanted = not only or item.service in only
            if wanted and item.service not in self.states:
                raise Refused("input", f"this machine has no service {item.service} that keeps any")
            folder = f"{self.root}/received/{item.service}"
            if wanted and item.service not in names:
                os.makedirs(folder, mode=0o700)
                names.append(item.service)
            self._store(item, f"{folder}/{item.name}" if wanted else os.devnull)
        if missing := sorted(set(only) - set(names)):
            raise Refused("absent", f"the backup has nothing of {', '.join(missing)}")
        return names

    @staticmethod
    def _store(item: wire.Received, path: str) -> None:
        try:
            with open(path, "wb") as out:
                out.writelines(item.pieces)
        except OSError as error:
            raise Refused("system", f"the backup cannot be stored: {error.strerror}") from error

    def _place(self, name: str) -> str:
        """Return a service's directory itself: what leads to the data disk stays where it is."""
        path: str = self.states[name]["path"]
        return os.path.realpath(path)

    def _prepare(self, name: str) -> None:
        """Make what is to take the place of a service's directory, owned as that is."""
        ours, target = self._place(name), f"{self.root}/ready/{name}"
        try:
            found = os.stat(ours)
        except OSError as error:
            raise Refused("services", f"{name} has not run here yet") from error
        os.makedirs(target)
        try:
            module: Any = registry.service(name)
            module.put(f"{self.root}/received/{name}", target, ours)
        except OSError as error:
            raise Refused("system", f"{name} cannot be put back: {error.strerror}") from error
        for folder, folders, files in os.walk(target):
            for entry in ("", *folders, *files):
                os.chown(os.path.join(folder, entry), found.st_uid, found.st_gid)
        os.chmod(target, found.st_mode & 0o7777)

    def _swap(self, names: list[str]) -> None:
        """Let what is ready take its place, and see whether the services live with it."""
        os.makedirs(f"{self.root}/previous", mode=0o700)
        self._note(names)
        try:
            self.units.stop(self._units_of(names))
            for name in names:
                ours = self._place(name)
                os.rename(ours, f"{self.root}/previous/{name}")
                os.rename(f"{self.root}/ready/{name}", ours)
            self._pour(names)
            self._await(names)
        except BaseException:
            self._take_back(names)
            raise
        os.remove(self.journal)
        self._sync()

    def _start(self, services: list[str]) -> None:
        records = [self.plan["services"][name] for name in services]
        units = [unit for record in records for unit in record["units"]]
        if units:
            received = sum(self._received(name) for name in services) / TAKES
            within = max(float(record["deadlineSeconds"]) for record in records)
            self.units.start(units, within + received)

    def _recovers(self, name: str, module: Any) -> bool:
        """Whether a service has more to do with what came than to start with it."""
        found = hasattr(module, "recovers") and module.recovers(f"{self.root}/received/{name}")
        return bool(found)

    def _received(self, name: str) -> int:
        """Return how many bytes came for a service."""
        folder = f"{self.root}/received/{name}"
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return sum(os.stat(f"{folder}/{item}").st_size for item in names)

    def _pour(self, names: list[str]) -> None:
        """Start the services, those first that take what was kept only when they run, for others
        would make of their own what is missing there; and set the passwords that are in force.
        """
        modules: dict[str, Any] = {name: registry.service(name) for name in names}
        first = [name for name in names if hasattr(modules[name], "pour")]
        self._start(first)
        for name in first:
            modules[name].pour(self.plan, f"{self.root}/received/{name}")
        # Nobody is to find one that takes no writes yet.
        late = [name for name in names if self._recovers(name, modules[name])]
        self._start(late)
        for name in late:
            modules[name].settle(self.plan, self._place(name), STOPS + self._received(name) / TAKES)
        self._start([name for name in names if name not in (*first, *late)])
        # One that came with a later image may find nothing of its own: no reason to go back.
        for name in self._still(names)[len(names) :]:
            try:
                self._start([name])
            except Refused:
                self.troubled.append(name)
        if "postgresql" in names:
            databases = self.plan["databases"]
            secrets = self.plan["secrets"]
            there = [d["unit"] for d in databases if os.path.exists(secrets[d["secret"]]["path"])]
            self.units.start(there, 0.0)

    def _await(self, names: list[str]) -> None:
        """Wait until the services answer.

        Raises:
            Refused: one does not, in its time.
        """
        services = self.plan["services"]
        lives = [name for name in names if self._lives(name)]
        asked = {question: name for name in lives for question in ready.alive(name, services[name])}
        until = {name: time.monotonic() + services[name]["deadlineSeconds"] for name in lives}
        board = Round()
        under_way: set[Any] = set()
        try:
            while asked:
                for question, name in asked.items():
                    if time.monotonic() > until[name]:
                        raise Refused("services", f"{name} does not answer with what was put back")
                    if question not in under_way and board.ask(question):
                        under_way.add(question)
                for question, good in board.step(0.1):
                    under_way.discard(question)
                    if good:
                        asked.pop(question, None)
                if not under_way:
                    time.sleep(0.1)
        finally:
            board.close()

    def _take_back(self, names: list[str]) -> None:
        """Let what was there before be there again, and forget the rest."""
        self.units.stop(self._units_of(names))
        for name in names:
            before, ours = f"{self.root}/previous/{name}", self._place(name)
            if os.path.exists(before):
                shutil.rmtree(ours, ignore_errors=True)
                os.rename(before, ours)
        os.remove(self.journal)
        self._sync()
        self._start(self._still(names))

    def _still(self, names: list[str]) -> list[str]:
        """Return who stands still meanwhile: also whoever has a database, and what it remembers of
        that, if PostgreSQL does.
        """
        owners = [database.get("service") for database in self.plan["databases"]]
        users = [owner for owner in owners if owner in self.plan["services"]]
        return list(dict.fromkeys([*names, *(users if "postgresql" in names else [])]))

    def _lives(self, name: str) -> bool:
        """Whether a service is to answer: one that waits for its secrets does not, without them."""
        record, secrets = self.plan["services"][name], self.plan["secrets"]
        there = all(os.path.exists(secrets[secret]["path"]) for secret in record["secrets"])
        return there or not record.get("waits")

    def _units_of(self, names: list[str]) -> list[str]:
        services = self.plan["services"]
        return [unit for name in self._still(names) for unit in services[name]["units"]]

    def _note(self, names: list[str]) -> None:
        with open(f"{self.journal}.new", "w", encoding="utf-8") as out:
            json.dump({"v": 1, "services": names}, out)
            out.flush()
            os.fsync(out.fileno())
        os.rename(f"{self.journal}.new", self.journal)
        self._sync()

    def _sync(self) -> None:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _forget(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
