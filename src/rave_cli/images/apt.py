"""The host's apt, used without touching the host: its sources, keys and proxies, our own state.

Everything apt writes lies in one directory of rave's cache, so that no privilege is needed and the
host's own lists, locks and caches stay as they are.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.events import Event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rave_cli.images.events import OnEvent

UPDATE_TIMEOUT = 300.0
SOLVE_TIMEOUT = 120.0

# Read after the host's configuration. Its hooks are cleared: some delete files of the host's cache.
CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State "{home}/state";
Dir::State::lists "{home}/state/lists";
Dir::State::status "/dev/null";
Dir::State::extended_states "{home}/state/extended_states";
Dir::Cache "{home}/cache";
Dir::Cache::archives "{home}/cache/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::preferences "{home}/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::Log "/dev/null";
"""

# Other repositories of the host may carry packages of the same names.
PREFERENCES = "Package: *\nPin: release o=Debian\nPin-Priority: 990\n"

_INST = re.compile(r"^Inst (?P<name>\S+) \((?P<version>\S+) .*\[(?P<architecture>\w+)\]\)")
_ABSENT = re.compile(
    r"Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation cand"
)
_DEPARTED = re.compile(r"Version '[^']*' for '([^']+)' was not found")
_SPACE = re.compile(r"No space left on device|enough free space|Disk quota exceeded")


@dataclass(frozen=True)
class Selected:
    """A package that apt would install."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True)
class Apt:
    """apt with its state under `home`."""

    home: Path

    def update(self) -> None:
        """Fetch the package lists of the host's sources, checking their signatures.

        Tried twice: a list that changes on the mirror while it is read fails its check once.

        Raises:
            RaveError: HOST if apt is missing, or a source cannot be reached or is not trusted.
        """
        for last in (False, True):
            done = self._run("update", timeout=UPDATE_TIMEOUT)
            if done.ok:
                return
            if last:
                raise fault(done.error_text)

    @property
    def updated(self) -> bool:
        """Whether lists have ever been fetched."""
        return any((self.home / "state/lists").glob("*Packages*"))

    def select(self, names: Sequence[str]) -> tuple[Selected, ...]:
        """Return what installing `names` on an empty system would install, in order.

        Raises:
            RaveError: HOST if the host's sources do not offer one of them.
        """
        done = self._run("install", "--simulate", *names, timeout=SOLVE_TIMEOUT)
        if not done.ok:
            raise fault(done.error_text)
        found = (_INST.match(line) for line in done.text.splitlines())
        return tuple(Selected(**match.groupdict()) for match in found if match)

    def download(
        self, wanted: Sequence[tuple[str, str]], target: Path, on_event: OnEvent
    ) -> tuple[str, ...]:
        """Download packages, each given as name and version, into `target`.

        apt checks each against the signed lists. Returns the names whose version no source has any
        more; if there are any, nothing was downloaded.

        Raises:
            RaveError: HOST if a download fails.
        """
        words = [f"{name}={version}" for name, version in wanted]
        tail: list[str] = []
        done = 0
        with process.spawn(
            self._argv("download", *words),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=target,
        ) as child:  # fmt: skip
            for raw in child.stdout or ():
                line = raw.decode(errors="replace").rstrip()
                tail = [*tail[-500:], line]
                if line.startswith("Get:"):
                    done += 1
                    on_event(Event("downloading packages", done, len(words)))
            status = child.wait()
        text = "\n".join(tail)
        departed = tuple(dict.fromkeys(_DEPARTED.findall(text)))
        if status and not departed:
            raise fault(text)
        return departed

    def _run(self, *words: str, timeout: float) -> process.Completed:
        return process.run(self._argv(*words), timeout=timeout)

    def _argv(self, *words: str) -> list[str]:
        process.require("apt-get")
        for folder in ("state/lists/partial", "cache/archives/partial"):
            paths.make_dir(self.home / folder, mode=0o755)
        paths.atomic_write(self.home / "apt.conf", CONFIGURATION.format(home=self.home).encode())
        paths.atomic_write(self.home / "preferences", PREFERENCES.encode())
        return ["apt-get", "--quiet", "--config-file", str(self.home / "apt.conf"), *words]


def fault(text: str) -> RaveError:
    """Return the error that apt's output stands for."""
    said = [line for line in text.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    detail = tuple(said[-8:] or text.splitlines()[-8:])
    absent = sorted({a or b for a, b in _ABSENT.findall(text)})
    if _SPACE.search(text):
        message = "no space left while fetching Debian packages"
        hint = "df -h ~/.cache; rave keeps packages in $XDG_CACHE_HOME/rave/debian"
    elif absent:
        message = f"this host's package sources do not offer {', '.join(absent)}"
        hint = (
            "the Debian base is made of Debian 12 (bookworm): use such a host, or add its sources"
        )
    elif re.search(r"NO_PUBKEY|not signed|BADSIG|EXPKEYSIG|[Ss]ignature", text):
        message = "a package source of this host is not trusted: its signature does not verify"
        hint = "apt-get update   (as root; shows the same, and which key is missing)"
    else:
        message = "Debian packages could not be fetched"
        hint = "apt-get update   (as root; shows which source of this host fails)"
    return RaveError(message, hint=hint, exit_code=ExitCode.HOST, detail=detail)
