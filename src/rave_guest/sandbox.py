"""`rave-guest sandbox [OPTION…] -- COMMAND…`: runs a command in a sandbox of the host's pool.

The sandbox is a machine that is made for it, reaches nothing, and is deleted afterwards. Prints
what the command prints, and ends with its exit status; with 124 if it took too long, with 125 if it
could not be run (as timeout(1) has them). A program that asks for the same with the same --key gets
the same job, whatever ended it in between.
"""

from __future__ import annotations

import os
import sys
import time
from binascii import a2b_base64

from rave_guest.wire.pool import NoPool, NotNow, PoolPort, PoolRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    OnPiece = Callable[[int, bytes], None]

FIRST_LOOK, LONGEST_LOOK = 0.1, 1.0  # seconds between two looks at a job
UNTIL_ROOM = 2.0  # seconds until a pool that has no room is asked again
LOST = 120.0  # seconds for which a pool may be away: whoever serves it may end at any moment
TIMED_OUT, NOT_RUN = 124, 125


class SandboxJob:
    """A job of the pool, followed to its end."""

    def __init__(self, port: PoolPort, told: dict[str, Any]) -> None:
        """Take over what the pool said of it."""
        self.port, self.told = port, told
        self._attempt = self._after = 0
        self._heard = time.monotonic()

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.told["job"])

    @property
    def status(self) -> int:
        """What a program that stands for it ends with, once it is over."""
        if self.told["state"] == "timeout":
            return TIMED_OUT
        ran = self.told["state"] in ("success", "failure") and self.told["exit_status"] is not None
        status = int(self.told["exit_status"]) if ran else NOT_RUN
        return status if status >= 0 else 128 - status

    def follow(self, on_piece: OnPiece, until: float = float("inf")) -> bool:
        """Hand on what it prints until it is over; False if it is not in time.

        Raises:
            NoPool, PoolRefused: as asking does.
        """
        pause = FIRST_LOOK
        while True:
            self.told = self._asked("show")
            while self._hear(on_piece):
                pause = FIRST_LOOK
            if self.told["over"]:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_LOOK)

    def cancel(self) -> None:
        """Have it ended."""
        self.told = self._asked("cancel")

    def _asked(self, ask: str, **more: Any) -> dict[str, Any]:
        while True:
            try:
                answer = self.port.ask(ask, job=self.name, **more)
            except NotNow:
                pass
            except NoPool:
                if time.monotonic() > self._heard + LOST:
                    raise
            else:
                self._heard = time.monotonic()
                return answer
            time.sleep(UNTIL_ROOM)

    def _hear(self, on_piece: OnPiece) -> bool:
        """Hand on what there is to hear; return whether there was something."""
        attempt = int(self.told["attempt"])
        if attempt != self._attempt:
            self._attempt, self._after = attempt, 0
        said = self._asked("output", attempt=attempt, after=self._after)["pieces"]
        for piece in said:
            self._after = int(piece["number"])
            on_piece(int(piece["stream"]), a2b_base64(piece["data"]))
        return bool(said)


def submit(
    port: PoolPort,
    work: dict[str, Any],
    *,
    key: str = "",
    archive: Any = None,
    patience: float = 0.0,
) -> SandboxJob:
    """Ask for a job.

    Args:
        port: whom to ask.
        work: what is asked for: `command` or `script`, `environment`, `timeout` and so on.
        key: tells it from any other of this machine.
        archive: a file with a tar archive that is laid out where it runs.
        patience: seconds for which a pool that has no room is asked again.

    Raises:
        NoPool, NotNow, PoolRefused: as asking does.
    """
    key = key or os.urandom(16).hex()
    until = time.monotonic() + patience
    while True:
        try:
            given = None
            if archive is not None:
                archive.seek(0)
                given = port.give(archive)
            return SandboxJob(port, port.ask("submit", key=key, work=work, given=given))
        except NotNow:
            if time.monotonic() > until:
                raise
        time.sleep(UNTIL_ROOM)


def archive_of(folder: str) -> Any:
    """Return a file with what is in a folder, or with what `-`, standard input, has."""
    import shutil
    import tarfile
    import tempfile

    archive = tempfile.TemporaryFile()  # noqa: SIM115 - read as long as the job is asked for
    if folder == "-":
        shutil.copyfileobj(sys.stdin.buffer, archive)
    else:
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(folder, arcname=".")
    archive.seek(0)
    return archive


def grant(group: str, port: PoolPort) -> None:
    """Let the accounts of a group ask, too, until the machine stops.

    Raises:
        NoPool: there is no port.
    """
    import grp

    if port.device is None:
        raise NoPool("this machine has no way to a pool")
    os.chown(port.device, 0, grp.getgrnam(group).gr_gid)
    os.chmod(port.device, 0o660)


def _pass_on(stream: int, data: bytes) -> None:
    out = sys.stdout.buffer if stream == 1 else sys.stderr.buffer
    out.write(data)
    out.flush()


def _options(argv: list[str]) -> Any:
    import argparse

    parser = argparse.ArgumentParser(prog="rave-guest sandbox", allow_abbrev=False)
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for each attempt")
    parser.add_argument("--memory", type=int, metavar="MIB", help="of its machine")
    parser.add_argument("--cpus", type=int, metavar="N", help="of its machine")
    parser.add_argument("--retries", type=int, default=0, metavar="N", help="after it failed")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--input", metavar="FOLDER", help="laid out where it runs; - is a tar")
    parser.add_argument("--key", default="", metavar="TEXT", help="the same again is the same job")
    parser.add_argument("--wait", type=float, default=600.0, metavar="SECONDS", help="for room")
    parser.add_argument("--json", action="store_true", help="print what became of it as JSON")
    parser.add_argument("--grant", metavar="GROUP", help="let the accounts of a group ask, too")
    parser.add_argument("command", nargs="*", metavar="COMMAND")
    found = parser.parse_args(argv)
    if bool(found.command) == bool(found.grant):
        parser.error("what is to be run? rave-guest sandbox -- COMMAND")
    return found


def _work(options: Any) -> dict[str, Any]:
    work: dict[str, Any] = {
        "command": options.command,
        "retries": options.retries,
        "environment": [list(one.partition("=")[::2]) for one in options.env],
    }
    asked = {"timeout": options.timeout, "memory_mib": options.memory, "cpus": options.cpus}
    return work | {name: value for name, value in asked.items() if value is not None}


def run(options: Any, port: PoolPort) -> int:
    """Run what was asked for; return the status to end with."""
    archive = archive_of(options.input) if options.input else None
    job = submit(port, _work(options), key=options.key, archive=archive, patience=options.wait)
    pieces: list[tuple[int, bytes]] = []
    take = (lambda stream, data: pieces.append((stream, data))) if options.json else _pass_on
    try:
        job.follow(take)
    except KeyboardInterrupt:
        job.cancel()
        raise
    if options.json:
        import json

        said = {
            name: b"".join(data for one, data in pieces if one == stream).decode(errors="replace")
            for stream, name in ((1, "stdout"), (2, "stderr"))
        }
        print(json.dumps(job.told | said))
    elif job.told["state"] not in ("success", "failure") or job.told["why"]:
        print(f"sandbox {job.name}: {job.told['state']}: {job.told['why']}", file=sys.stderr)
    return job.status


def main(argv: list[str]) -> int:
    """Run a command in a sandbox."""
    options, port = _options(argv), PoolPort()
    try:
        if options.grant:
            grant(options.grant, port)
            return 0
        return run(options, port)
    except (NoPool, NotNow, PoolRefused, OSError, LookupError) as error:
        print(f"rave-guest sandbox: {error}", file=sys.stderr)
        return NOT_RUN
    except KeyboardInterrupt:
        return 130
