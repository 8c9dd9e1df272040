"""The real thing, as a new user has it: a clean clone, an empty home, `make demo`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

# The file whose first test waits for both runs of `make demo`, and has the time for them: no other
# may be the one that does, for theirs is that of a few commands.
FIRST = "test_demo"

# Files whose tests stop the machine that the others need: each stop and start takes half a minute
# on a busy host. They come last, and first of them those after which it runs again. What a hostile
# guest reports goes with the next boot: nobody else is to look at that before.
LAST = (
    "test_docs",
    "test_verbs",
    "test_hostile",
    "test_causes",
    "test_offline",
    "test_faults",
    "test_warm",
)

# What a login shell has; everything else of the caller stays out.
KEPT = ("PATH", "LANG", "TERM", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")


# What a run of the tests ends with: how long things took.
MEASURED: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long things took."""
    for line in MEASURED:
        terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of FIRST before the others, and those of LAST behind them, in its order."""
    here = Path(__file__).parent
    places = {here / f"{name}.py": number for number, name in enumerate(LAST)}
    places[here / f"{FIRST}.py"] = -2
    items.sort(key=lambda item: places.get(item.path, -1))


@dataclass
class Site:
    """A clean clone, a home of its own, and how long things took there (seconds)."""

    checkout: Path
    home: Path
    env: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    def run(
        self, argv: list[str], *, timeout: float = 300, check: bool = True, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the clone; with `check`, what it said is part of the failure."""
        done = subprocess.run(
            argv, cwd=self.checkout, env=self.env, timeout=timeout, check=False,
            capture_output=True, text=True, input=given,
        )  # fmt: skip
        if check and done.returncode != 0:
            pytest.fail(f"{argv} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def rave(
        self, *words: str, timeout: float = 300, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run rave in the clone."""
        return self.run([self.rave_path, *words], timeout=timeout, check=check)

    def json(self, *words: str) -> Any:
        """Run rave with --json and return its document."""
        return json.loads(self.rave(*words, "--json").stdout)

    @property
    def rave_path(self) -> str:
        """The clone's own rave."""
        return str(self.checkout / ".venv/bin/rave")

    @property
    def signing_key(self) -> Path:
        """The public key that verifies this site's transcripts."""
        return self.home / ".config/rave/signing/id_ed25519.pub"

    def transcripts(self) -> list[Path]:
        """Return the transcripts, oldest first."""
        return sorted((self.checkout / "artifacts").glob("boot_transcript_*Z.json"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Clone, run `make demo` twice, and leave the machine running for the tests."""
    # A place such as people have: with a blank in it.
    folder = tmp_path_factory.mktemp("user") / "my work"
    home = folder / "home"
    folder.mkdir()
    home.mkdir(mode=0o700)
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    env["HOME"] = str(home)
    pip_config = Path.home() / ".config/pip/pip.conf"
    if pip_config.exists():
        env["PIP_CONFIG_FILE"] = str(pip_config)
    # Sockets need a short path; a login session would give one.
    env["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("run"))
    checkout = folder / "rave"
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    found = Site(checkout, home, env)
    try:
        for name in ("first make demo", "second make demo"):
            began = time.monotonic()
            done = found.run(["make", "demo"], timeout=900)
            found.seconds[name] = time.monotonic() - began
            (folder / f"{name}.log").write_text(done.stdout + done.stderr)
            MEASURED.append(f"{name}: {found.seconds[name]:.1f} s")
        yield found
    finally:
        if (checkout / ".venv/bin/rave").exists():
            for name in machines(found):
                found.rave("vm", "delete", name, "--force", check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def demo(site: Site) -> str:
    """A running demo machine with its secrets."""
    done = site.rave("vm", "status", "demo", "--json", check=False)
    found = json.loads(done.stdout) if done.returncode == 0 else {}
    if (found.get("state"), found.get("secrets")) != ("running", "installed"):
        site.rave("up", "--profile", "demo", "--base", "debian", "--skip-smoke", timeout=600)
    return "demo"


def machines(site: Site) -> list[str]:
    """Return the names of the site's machines, read from the disk rather than from rave."""
    place = site.home / ".local/share/rave/vms"
    if not place.is_dir():
        return []
    return sorted(path.name for path in place.iterdir() if not path.name.endswith(".lock"))


def qemu_processes(site: Site) -> list[int]:
    """Return the QEMU processes whose arguments name this site's files."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"qemu-system" in argv and str(site.home).encode() in argv:
                found.append(int(entry.name))
    return found
