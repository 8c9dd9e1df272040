"""A host is lost: its machine comes back on another from the page that was kept, and the place that
has the copy of its backups.

RAVE_OTHER_PLACE=1 runs it: two machines are made and filled, which takes some minutes under TCG.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import MEASURED, Site
from tests.integration.backups import places
from tests.integration.backups.places import needs_s3, needs_sshd
from tests.kits import armored, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

THOROUGH = "RAVE_OTHER_PLACE"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        THOROUGH not in os.environ, reason=f"it takes minutes: {THOROUGH}=1 runs it"
    ),
    pytest.mark.skipif(not shutil.which("age"), reason="no age on this host"),
]

PASSPHRASE = "five words that nobody guesses"
BUILDS = 1200.0

# Puts a mark into each service that keeps something, reads the marks, or takes them away.
MARKS = """
import json, sys
from rave_cli.flows.recovery import marks
from rave_cli.machines import store
found = marks(store.load("demo"), json.loads(sys.argv[1]))
print(json.dumps({name: [one.count, one.sha256] for name, one in found.items()}))
"""

# What an operator types into the secrets file: what was there of the group gives way.
EDITOR = """
import sys
from pathlib import Path
file, typed = Path(sys.argv[-1]), Path(sys.argv[1])
file.write_text(file.read_text().partition("backup-copy:")[0] + typed.read_text())
"""


def marks(site: Site, **wanted: Any) -> dict[str, list[Any]]:
    python = str(site.checkout / ".venv/bin/python")
    said = site.run([python, "-c", MARKS, json.dumps(wanted)]).stdout
    found: dict[str, list[Any]] = json.loads(said)
    return found


def tell(site: Site, secrets: dict[str, str], folder: Path) -> None:
    """Put the place into the secrets file as people do."""
    lines = ["backup-copy:"]
    for name, value in secrets.items():
        lines += [f"  {name}: |", *(f"    {line}" for line in value.strip().splitlines())]
    (folder / "typed.yaml").write_text("\n".join(lines) + "\n")
    (folder / "editor.py").write_text(EDITOR)
    editor = f"{sys.executable} {folder}/editor.py {folder}/typed.yaml"
    replace(site, env=site.env | {"SOPS_EDITOR": editor}).rave("secrets", "edit")


@contextmanager
def served(kind: str, folder: Path) -> Iterator[tuple[places.Away, tuple[str, ...]]]:
    """Serve a place; yields it, and the words that a new host needs besides the page."""
    if kind == "sftp":
        with places.sftp(folder / "away") as place:
            yield place, ()
        return
    own = places.authority()
    (folder / "own.pem").write_text(own.pem)
    with places.s3(folder / "away", shown=places.certified(own, "127.0.0.1")) as place:
        place.secrets["ca"] = own.pem
        yield place, ("--ca", str(folder / "own.pem"))


@contextmanager
def another_host(lost: Site, home: Path, run: Path) -> Iterator[Site]:
    """Yield a host that has nothing of the other, whose home is gone meanwhile."""
    lost.rave("vm", "stop", "demo")
    gone = lost.home.with_name("lost")
    lost.home.rename(gone)
    home.mkdir(mode=0o700)
    found = Site(lost.checkout, home, lost.env | {"HOME": str(home), "XDG_RUNTIME_DIR": str(run)})
    try:
        yield found
    finally:
        found.rave("vm", "delete", "demo", "--force", check=False)
        gone.rename(lost.home)


@pytest.mark.parametrize(
    "kind", [pytest.param("sftp", marks=needs_sshd), pytest.param("s3", marks=needs_s3)]
)
def test_a_machine_comes_back_from_the_page_and_the_place(
    site: Site, demo: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """docs/how-to/recover-a-lost-host.md, with another place, step by step."""
    with ExitStack() as stack:
        place, more = stack.enter_context(served(kind, tmp_path))
        tell(site, place.secrets, tmp_path)
        marked = marks(site, put="0123456789abcdef")
        assert {"postgresql", "redis", "nats"} <= set(marked)
        site.rave("backup", "now", demo)
        marks(site, remove=True)
        copied = site.json("backup", "copy")
        assert copied["place"].startswith(f"{kind}://")
        page = tmp_path / "kit.txt"
        site.run([site.rave_path, "backup", "kit", str(page)], given=f"{PASSPHRASE}\n")
        code, typed = opened(armored(page.read_text()), PASSPHRASE, tmp_path / "KEY.age")
        assert code == 0

        # Sockets need a short path.
        run = tmp_path_factory.mktemp("run")
        new = stack.enter_context(another_host(site, tmp_path / "home", run))
        began = time.monotonic()
        words = [new.rave_path, "backup", "fetch", "--kit", *more, "--json"]
        fetched = json.loads(new.run(words, given=typed.decode()).stdout)
        assert fetched["objects"] > 0
        assert "sound" in new.rave("backup", "verify").stdout
        done = json.loads(
            new.rave("backup", "restore", demo, "--to", demo, "--json", timeout=BUILDS).stdout
        )
        took = time.monotonic() - began
        assert marks(new, read=True) == marked
        status = new.json("vm", "status", demo)
        assert (status["state"], status["secrets"]) == ("running", "installed")
        MEASURED.append(
            f"a lost host over {kind}: {copied['objects']} objects, {copied['bytes'] >> 10} KiB,"
            f" copied in {copied['seconds']} s, fetched in {fetched['seconds']} s; from the page to"
            f" the marks {took:.1f} s ({ {key: done[key] for key in done if 'econds' in key} })"
        )
