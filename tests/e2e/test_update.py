"""A real machine gets another system with its data, loses one that breaks them, and goes back.

RAVE_REAL_UPDATE=1 runs it: two images are built and the machine boots five times, which takes four
to eight minutes under TCG.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Site

REAL = "RAVE_REAL_UPDATE"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(REAL not in os.environ, reason=f"it takes minutes: {REAL}=1 runs it"),
]

UNIT = "infra/debian/services/postgresql/templates/etc/systemd/system/postgresql.service"
MORE = "-c log_connections=on -c max_connections="
# A server that finds its data not to its taste, after it has spoilt them.
BROKEN = "ExecStartPre=/bin/sh -c 'rm -rf /var/lib/postgresql/15/main/base; exit 1'\n"
PSQL = ("sudo", "-u", "postgres", "psql", "-XqtA", "-c")
BUILDS = 1200.0


@pytest.fixture
def unit(site: Site) -> Iterator[Unit]:
    """The unit of PostgreSQL in the site's checkout, which is left as it was."""
    found = Unit(site)
    before = found.text
    yield found
    found.write(before)


class Unit:
    """A file of a checkout whose path has a blank: Nix reads of such what is committed."""

    def __init__(self, site: Site) -> None:
        self.site = site

    @property
    def text(self) -> str:
        return (self.site.checkout / UNIT).read_text()

    def write(self, text: str) -> None:
        (self.site.checkout / UNIT).write_text(text)
        who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        self.site.run(["git", *who, "commit", "--quiet", "--all", "--message", "another unit"])


def marked(site: Site) -> str:
    """Return what was written into PostgreSQL."""
    say = "select string_agg(said, ',' order by said) from marker"
    return site.rave("vm", "exec", "demo", "--", *PSQL, say).stdout.strip()


def mark(site: Site, word: str) -> None:
    """Write a word into PostgreSQL."""
    said = f"create table if not exists marker (said text); insert into marker values ('{word}')"  # noqa: S608 - a word of this file
    site.rave("vm", "exec", "demo", "--", *PSQL, said)


def image(site: Site) -> str:
    found = site.json("vm", "status", "demo")
    assert (found["state"], found["secrets"]) == ("running", "installed")
    return str(found["image"]["sha256"])


def test_an_update_one_that_fails_and_the_way_back(site: Site, demo: str, unit: Unit) -> None:
    mark(site, "1")
    first = image(site)
    good = unit.text.replace("-c max_connections=", MORE)
    unit.write(good)
    told = json.loads(site.rave("vm", "update", demo, "--json", timeout=BUILDS).stdout)
    second = image(site)
    assert (told["from"], told["to"], told["updated"]) == (first, second, True)
    assert told["smoke"]["status"] in {"SUCCESS", "WARNING"}
    proven = site.transcripts()[-1]
    seen = site.json("smoke", "verify", str(proven), "--key", str(site.signing_key))
    assert (seen["updated_from"], seen["image_sha256"]) == (first, second)
    assert marked(site) == "1"
    mark(site, "2")

    unit.write(good.replace("ExecReload=", f"{BROKEN}ExecReload="))
    failed = site.rave("vm", "update", demo, timeout=BUILDS, check=False)
    assert failed.returncode == ExitCode.NOT_READY, failed.stderr
    assert "is as it was before the update, system and data" in failed.stderr
    assert (image(site), marked(site)) == (second, "1,2")

    site.rave("vm", "rollback", demo)
    assert (image(site), marked(site)) == (first, "1")
    mark(site, "3")
    site.rave("vm", "rollback", demo, "--undo")
    # What was set aside last is what the rollback set aside.
    assert (image(site), marked(site)) == (second, "1,2")
    site.rave("vm", "prune", "--updates", "--yes")
