"""The Nix driver: settings, evaluation, builds with progress, and what their failures mean."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli import nixstore, paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import rootless
from rave_cli.images.events import BuildEvent
from rave_cli.images.manifest import NAR_HASH
from rave_cli.images.nixfaults import explain
from rave_cli.images.nixlog import (
    ERROR,
    WARNING,
    BuildLine,
    BuildPhase,
    BuildsProgress,
    BuildStarted,
    LogReader,
    Message,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rave_cli.images.events import OnEvent
    from rave_cli.images.nixlog import NixEvent
    from rave_cli.profiles.names import Mode

EVALUATION_TIMEOUT = 900.0
ADD_TIMEOUT = 300.0
REPAIR_TIMEOUT = 3600.0
# What may hold the cause: a full disk is told before the traceback of whoever met it.
KEPT_LINES = 200
DAEMON_SOCKET = Path("/nix/var/nix/daemon-socket/socket")
KVM = Path("/dev/kvm")

# What SAFE mode allows a build: one job at a time, on two cores.
SAFE = ("--max-jobs", "1", "--cores", "2")
FULL = ("--max-jobs", "auto", "--cores", "0")

# setpriv, of util-linux: the kernel ends Nix when rave is gone, even by SIGKILL.
_DIE_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")


@dataclass(frozen=True)
class Output:
    """A derivation's output. `nar_hash` is None while it is not built."""

    path: str
    nar_hash: str | None


@dataclass(frozen=True)
class Nix:
    """Nix as one base needs it.

    Attributes:
        base: debian builds with the host's tools and root's rights, in a store of the user's own
            for whoever is not root; nixos builds as the host is set up.
        mode: which caps a build gets.
        lock: a Debian lock to evaluate instead of the repository's.
    """

    base: str
    mode: Mode
    lock: Path | None = None

    def output(self, installable: str) -> Output:
        """Evaluate an installable and return its output path, with its hash if it is built.

        Raises:
            RaveError: HOST if Nix is missing; USAGE for an unknown attribute; BUILD otherwise.
        """
        found = self._ask("path-info", "--json", *self._impure(), installable)
        return parse_path_info(found)

    def evaluate(self, installable: str) -> Any:  # noqa: ANN401 - JSON
        """Return an attribute as JSON.

        Raises:
            RaveError: as `output`.
        """
        return json.loads(self._ask("eval", "--json", *self._impure(), installable))

    def add_files(self, files: Sequence[Path]) -> None:
        """Add files to the store by name and content. What is there already is left alone.

        Raises:
            RaveError: HOST if the store cannot be written.
        """
        done = process.run(
            [process.require("nix-store"), "--add-fixed", "sha256", *files],
            env=self.environment(), timeout=ADD_TIMEOUT,
        )  # fmt: skip
        if not done.ok:
            raise explain(done.tail(), (), self.base, "the Nix store")

    def build(
        self,
        installable: str,
        out_link: Path,
        on_event: OnEvent,
        *,
        scratch: Path,
    ) -> None:
        """Build an installable and make `out_link` a garbage-collection root of its output.

        The link changes only when the build succeeded. When this is interrupted, Nix and every
        builder end too; so they do when rave is killed.

        Args:
            installable: `FLAKE#attribute`.
            out_link: replaced atomically by Nix.
            on_event: hears phases and progress.
            scratch: directory for the builders' work, of one build at a time; emptied before and
                removed afterwards, since an interrupted Nix leaves what a builder was writing.

        Raises:
            RaveError: BUILD with the end of the log if the build fails; HOST for the host's fault.
        """
        paths.make_dir(out_link.parent, mode=0o755)
        argv: list[str | Path] = [
            *self._rights(),
            *_DIE_WITH_US,
            *self._command("build"), "--out-link", out_link, "--log-format", "internal-json", "-v",
            *(SAFE if self.mode == "safe" else FULL),
            *self._impure(), installable,
        ]  # fmt: skip
        teller = _Teller(on_event)
        env = self.environment() | {"TMPDIR": str(scratch)}
        with (
            _emptied(scratch),
            process.spawn(
                argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as child,
        ):
            reader = LogReader()
            for raw in child.stderr or ():
                teller.hear(reader.read(raw.decode(errors="replace")))
            status = child.wait()
        if status:
            raise explain(tuple(teller.errors), tuple(teller.lines), self.base, installable)

    def repair(self, path: str, *, scratch: Path) -> None:
        """Restore a store path whose content was altered, by building it again.

        Raises:
            RaveError: as `build`.
        """
        env = self.environment() | {"TMPDIR": str(scratch)}
        with _emptied(scratch):
            done = process.run(
                [
                    *self._rights(),
                    *_DIE_WITH_US,
                    process.require("nix-store"),
                    "--repair-path",
                    path,
                ],
                env=env,
                timeout=REPAIR_TIMEOUT,
            )
        if not done.ok:
            raise explain((), done.tail(KEPT_LINES), self.base, path)

    def environment(self) -> dict[str, str]:
        """Return what Nix's processes get in addition: settings, and which store to talk to."""
        lines = [os.environ.get("NIX_CONFIG", ""), *settings(self.base, root=os.getuid() == 0)]
        found = {"NIX_CONFIG": "\n".join(lines) + "\n"}
        if self.lock is not None:
            found["RAVE_DEBIAN_LOCK"] = str(self.lock)
        return found | (nixstore.environment() if self.base == "debian" else {})

    def _rights(self) -> tuple[str, ...]:
        return rootless.enter() if self.base == "debian" else ()

    def _impure(self) -> tuple[str, ...]:
        return ("--impure",) if self.lock is not None else ()

    def _command(self, verb: str) -> list[str]:
        return [process.require("nix"), verb, "--no-write-lock-file"]

    def _ask(self, verb: str, *words: str) -> str:
        done = process.run(
            [*self._command(verb), *words], env=self.environment(), timeout=EVALUATION_TIMEOUT
        )
        if not done.ok:
            raise explain(done.tail(KEPT_LINES), (), self.base, words[-1])
        return done.text


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """Provide an empty directory, and remove it with all it holds."""
    rootless.remove(folder)
    paths.make_dir(folder, mode=0o755)
    try:
        yield
    finally:
        rootless.remove(folder)


class _Teller:
    """Passes on what a user wants to hear of a build, and keeps what explains a failure."""

    def __init__(self, on_event: OnEvent) -> None:
        self.on_event = on_event
        self.errors: deque[str] = deque(maxlen=KEPT_LINES)
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.done: int | None = None
        self.total: int | None = None

    def hear(self, event: NixEvent | None) -> None:
        """Take one event of Nix."""
        match event:
            case Message(level, text) if level in (ERROR, WARNING):
                self.errors.extend(text.splitlines())
            case BuildLine(_, text):
                self.lines.append(text)
            case BuildsProgress(done, total):
                self.done, self.total = done, total
            case BuildStarted(_, name):
                self.on_event(BuildEvent(f"building {name}", self.done, self.total))
            case BuildPhase(_, text):
                self.on_event(BuildEvent(text, self.done, self.total))
            case _:
                pass


def settings(base: str, *, root: bool) -> list[str]:
    """Return lines of nix.conf that a base needs; nobody's files are changed.

    Args:
        base: which base is built.
        root: whether Nix runs as root. Then it would refuse to build where the group nixbld is
            missing, as with Debian's nix-bin alone.
    """
    lines = ["experimental-features = nix-command flakes", "warn-dirty = false"]
    if base == "debian":
        # Its builder installs packages: it needs chroot, owners and setuid bits, and no cache.
        lines += ["build-users-group =", "sandbox = false", "filter-syscalls = false"]
        lines += ["substituters =", "extra-substituters ="]
    elif root and not _has_group("nixbld"):
        lines += ["build-users-group ="]
    return lines


def _has_group(name: str) -> bool:
    import grp

    try:
        return bool(grp.getgrnam(name).gr_mem)
    except KeyError:
        return False


def builds_in_vms() -> bool:
    """Return whether a derivation finds a builder with the feature `kvm`, as a NixOS image needs.

    A NixOS image is written inside a virtual machine of the build. A remote builder may have the
    feature (nix.conf(5), system-features and builders).

    Raises:
        RaveError: HOST if Nix is missing.
    """
    done = process.run(
        [process.require("nix"), "show-config", "--json"], timeout=30,
        env=Nix("nixos", "safe").environment(),
    )  # fmt: skip
    if not done.ok:
        return True  # Nix itself says so when it comes to it
    found = json.loads(done.text)
    if "kvm" in found["system-features"]["value"]:
        return True
    # The daemon, which may open what this user may not, goes by what the device is.
    if os.getuid() != 0 and DAEMON_SOCKET.is_socket() and KVM.exists():
        return True
    builders = found["builders"]["value"]
    return Path(builders[1:]).is_file() if builders.startswith("@") else bool(builders)


def describe() -> str:
    """Return which Nix there is and how it would build, in one line.

    Raises:
        RaveError: HOST if it is missing or does not run.
    """
    done = process.run([process.require("nix"), "--version"], timeout=10)
    if not done.ok:
        raise RaveError(
            "nix does not run", hint="apt-get install --reinstall nix-bin",
            exit_code=ExitCode.HOST, detail=done.tail(),
        )  # fmt: skip
    if os.getuid() == 0:
        how = "builds both bases as root"
    else:
        rootless.require()
        how = f"builds the debian base in {nixstore.directory()}"
        how += ", the nixos base " + ("through the daemon" if DAEMON_SOCKET.is_socket() else "not")
    if not builds_in_vms():
        how += "; no builder has the feature kvm, without which no image of the nixos base is built"
    return f"{done.text.strip()}: {how}"


def parse_path_info(text: str) -> Output:
    """Return what `nix path-info --json` says of one path: a list up to Nix 2.18, a map since.

    Raises:
        RaveError: BUILD if it says nothing of that kind.
    """
    document = json.loads(text)
    if isinstance(document, dict):
        document = [{"path": path, **(found or {})} for path, found in document.items()]
    if isinstance(document, list) and len(document) == 1 and "path" in document[0]:
        record = document[0]
        nar_hash = record.get("narHash")
        if nar_hash is None or re.search(NAR_HASH, str(nar_hash)):
            return Output(record["path"], nar_hash)
    raise RaveError(
        "nix path-info did not name one store path, with a narHash of the form sha256-<base64>",
        hint="rave doctor nix",
        exit_code=ExitCode.BUILD,
        detail=(text[:400],),
    )
