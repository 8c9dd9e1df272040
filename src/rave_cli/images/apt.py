"""apt with a configuration of our own: the lock's suites and keys, the host's way to the network.

Everything apt writes lies in one directory of rave's cache, so that no privilege is needed and the
host's own lists, locks and caches stay as they are. Of the host it takes proxies, certificates and
logins; its package sources, keys, pins and hooks have no say.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.events import BuildEvent

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
#clear APT::Default-Release;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Get::AllowUnauthenticated "false";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "2";
{freshness}Dir::State "{home}/state";
Dir::State::lists "{home}/state/lists";
Dir::State::status "/dev/null";
Dir::State::extended_states "{home}/state/extended_states";
Dir::Cache "{home}/cache";
Dir::Cache::archives "{home}/cache/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::preferences "{home}/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{home}/sources";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Log "/dev/null";
"""

_INST = re.compile(
    r"^Inst (?P<name>\S+) \((?P<version>\S+) (?P<origins>.*)\[(?P<architecture>\w+)\]\)"
)
_ABSENT = re.compile(
    r"Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation cand"
)
_DEPARTED = re.compile(r"Version '[^']*' for '([^']+)' was not found")
_URI = re.compile(r"^'[^']*' (\S+) \d+ SHA256:([0-9a-f]{64})$", re.MULTILINE)
_SPACE = re.compile(r"No space left on device|enough free space|Disk quota exceeded")
_UNTRUSTED = re.compile(r"NO_PUBKEY|not signed|BADSIG|EXPKEYSIG|[Ss]ignature|Missing key")
_EXPIRED = re.compile(r"Release file for \S+ is expired")


@dataclass(frozen=True)
class Selected:
    """A package that apt would install. `security`: its version is in the security archive."""

    name: str
    version: str
    architecture: str
    security: bool = False


@dataclass(frozen=True)
class Apt:
    """apt with its state under `home`.

    Attributes:
        home: directory of its state.
        sources: what it asks, as deb822 text (see `archives.stanzas`).
        where: the addresses with who named them, for messages.
        aged: whether the archives are dated ones, whose lists have expired by design.
        preferences: what it takes from which of them (see `archives.preferences`).
    """

    home: Path
    sources: str
    where: str
    aged: bool = False
    preferences: str = ""

    def update(self) -> None:
        """Fetch the package lists, checking their signatures.

        Tried twice: a list that changes on the mirror while it is read fails its check once.

        Raises:
            RaveError: HOST if apt is missing, or an archive cannot be reached or is not trusted.
        """
        for last in (False, True):
            done = self._run("update", timeout=UPDATE_TIMEOUT)
            if done.ok:
                return
            if last:
                raise fault(done.error_text, self.where)

    @property
    def updated(self) -> bool:
        """Whether lists have ever been fetched."""
        return any((self.home / "state/lists").glob("*Packages*"))

    def select(self, names: Sequence[str]) -> tuple[Selected, ...]:
        """Return what installing `names` on an empty system would install, in order.

        Raises:
            RaveError: HOST if the archives do not offer one of them.
        """
        done = self._run("install", "--simulate", *names, timeout=SOLVE_TIMEOUT)
        if not done.ok:
            raise fault(done.error_text, self.where)
        return read_selection(done.text)

    def digests(self, wanted: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Return what the signed lists say of packages, each given as name and version.

        Returns: file name -> sha256, for those of which they say it.
        """
        words = [f"{name}={version}" for name, version in wanted]
        return dict(_URI.findall(self._run("download", "--print-uris", *words, timeout=60).text))

    def download(
        self, wanted: Sequence[tuple[str, str]], target: Path, on_event: OnEvent
    ) -> tuple[str, ...]:
        """Download packages, each given as name and version, into `target`.

        apt checks each against the signed lists. Returns the names whose version no archive has any
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
                    on_event(BuildEvent("downloading packages", done, len(words)))
            status = child.wait()
        text = "\n".join(tail)
        departed = tuple(dict.fromkeys(_DEPARTED.findall(text)))
        if status and not departed:
            raise fault(text, self.where)
        return departed

    def _run(self, *words: str, timeout: float) -> process.Completed:
        return process.run(self._argv(*words), timeout=timeout)

    def _argv(self, *words: str) -> list[str]:
        if process.find("apt-get") is None:
            raise RaveError(
                "choosing Debian packages takes apt, and this host has none",
                hint="rave vm lock-closure   on a host with apt, and commit; or set"
                " RAVE_DEBIAN_SNAPSHOT to a dated archive, which has what the lock names",
                exit_code=ExitCode.HOST,
            )
        for folder in ("state/lists/partial", "cache/archives/partial", "sources"):
            paths.make_dir(self.home / folder, mode=0o755)
        freshness = 'Acquire::Check-Valid-Until "false";\n' if self.aged else ""
        text = CONFIGURATION.format(home=self.home, freshness=freshness)
        paths.atomic_write(self.home / "apt.conf", text.encode())
        paths.atomic_write(self.home / "sources/rave.sources", self.sources.encode())
        paths.atomic_write(self.home / "preferences", self.preferences.encode())
        return ["apt-get", "--quiet", "--config-file", str(self.home / "apt.conf"), *words]


def file_name(name: str, version: str, architecture: str) -> str:
    """Return the name under which apt saves a package: the version's epoch colon is escaped."""
    return f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"


def read_selection(text: str) -> tuple[Selected, ...]:
    """Return what `apt-get install --simulate` says it would install."""
    found = filter(None, map(_INST.match, text.splitlines()))
    return tuple(
        Selected(m["name"], m["version"], m["architecture"], "Debian-Security:" in m["origins"])
        for m in found
    )


def fault(text: str, where: str) -> RaveError:
    """Return the error that apt's output stands for.

    Args:
        text: what apt said.
        where: which archives it asked.
    """
    said = [line for line in text.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    detail = (f"asked: {where}", *(said[-8:] or text.splitlines()[-8:]))
    absent = sorted({a or b for a, b in _ABSENT.findall(text)})
    hint = "set RAVE_DEBIAN_MIRROR to another mirror of Debian, or try again"
    if _SPACE.search(text):
        message = "no space left while fetching Debian packages"
        hint = "df -h ~/.cache; rave keeps packages in $XDG_CACHE_HOME/rave/debian"
    elif absent:
        message = f"the package archive does not offer {', '.join(absent)}"
        hint = "set RAVE_DEBIAN_MIRROR to a whole mirror of Debian, which has the lock's suites"
    elif _EXPIRED.search(text):
        message = "the package archive's lists have expired: it was not brought up to date"
        hint = "set RAVE_DEBIAN_MIRROR to a mirror that is; date   (if this host's clock is wrong)"
    elif _UNTRUSTED.search(text):
        message = "the package archive is not signed by the keys that the lock names"
        hint = (
            "set RAVE_DEBIAN_MIRROR to a mirror of Debian; RAVE_DEBIAN_KEYRING names further keys"
            " to trust"
        )
    else:
        message = "Debian packages could not be fetched"
    return RaveError(message, hint=hint, exit_code=ExitCode.HOST, detail=detail)
