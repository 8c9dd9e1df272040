"""What a server of PostgreSQL has is dumped, and loaded into one of another release.

Both are the host's own unless RAVE_OTHER_POSTGRES names the programs of an older one
(…/postgresql/13/bin; its libraries by LD_LIBRARY_PATH): what there is to go wrong between two
releases is theirs, what is tried here is that nothing gets lost on the way.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rave_guest
from tests import postgres
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = "/usr/bin/python3"
# Where what is brought to the disk costs nothing.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def _fits() -> bool:
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return False
    return Path(PYTHON).exists()


pytestmark = [
    pytest.mark.integration,
    *postgres.NEEDED,
    pytest.mark.skipif(not _fits(), reason="no account postgres, or no /usr/bin/python3"),
]

# Names that have to be quoted, everything that rave's services have, and what they might.
CLUSTER = r"""
set password_encryption = 'scram-sha-256';
revoke all on database postgres from public;
revoke all on database template1 from public;
create role app login connection limit 20 password 'secret of app';
create role monitor login;
grant connect on database postgres to monitor;
grant pg_monitor to monitor;
create role "we'ird \ one";
create database "we'ird \ one" owner "we'ird \ one";
create database app owner app template template0;
revoke all on database app from public;
create table marker (said text);
insert into marker values ('kept');
"""
APP = """
set role app;
create table rows (id bigserial primary key, said text, more jsonb);
insert into rows (said, more) select md5(g::text), jsonb_build_object('of', g)
  from generate_series(1, 2000) g;
create index on rows (said);
create schema other;
create table other."Odd.Name" (a bytea);
insert into other."Odd.Name" values ('\\x00ff');
create view few as select * from rows where id < 10;
create function one() returns int language sql as 'select 1';
select lo_from_bytea(0, 'large');
"""

BEGIN = """
import json, os, signal, sys
sys.path.insert(0, {source!r})
os.umask(0o077)
from rave_guest.state import dump, load
home, old, new = {home!r}, {old!r}, {new!r}
before, after = home + '/13/main', home + '/15/main'
"""


class Disk:
    """A data disk with a cluster `13/main`, and both servers' programs."""

    def __init__(self, place: Path, source: Path) -> None:
        self.place, self.source = place, source
        self.new = str(Path(postgres.program("initdb")).parent)
        self.old = os.environ.get("RAVE_OTHER_POSTGRES", self.new)

    def run(self, text: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run lines of Python as PostgreSQL's account, as the guest does with its own."""
        begin = BEGIN.format(
            source=str(self.source), home=str(self.place), old=self.old, new=self.new
        )
        more = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        process = subprocess.Popen(
            [PYTHON, "-B", "-c", begin + text], user="postgres", group="postgres", extra_groups=[],
            cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"} | more,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=CEILING)
        finally:
            # As with a power cut: nothing of it stays behind.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert not check or process.returncode == 0, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def load(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("print(load.load(after, new))", check=check)

    def refused(self) -> str:
        found = self.load(check=False)
        assert found.returncode == 1, found.stdout
        assert not (self.place / "15/main").exists()
        assert (self.place / "13/main/PG_VERSION").exists()
        return found.stderr.strip().splitlines()[-1]

    def names(self) -> list[str]:
        """What is on the disk, two directories deep."""
        found = (*self.place.glob("*"), *self.place.glob("1*/*"))
        return sorted(str(path.relative_to(self.place)) for path in found)

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.place / "dump/dump.json").read_text())
        return found

    def falsify(self, name: str, text: str) -> None:
        """Change a file of the dump, and its sum."""
        (self.place / "dump" / name).write_text(text)
        self.run(
            f"record = json.load(open(home + '/dump/dump.json'))\n"
            f"record['files'][{name!r}] = dump.sum_of(home + '/dump/' + {name!r})\n"
            f"json.dump(record, open(home + '/dump/dump.json', 'w'))"
        )


@pytest.fixture(scope="module")
def dumped() -> Iterator[Disk]:
    """A disk as the system before leaves it."""
    with tempfile.TemporaryDirectory(prefix="rave-release-", dir=MEMORY) as name:
        place = Path(name)
        place.chmod(0o755)
        shutil.copytree(Path(rave_guest.__file__).parent, place / "source/rave_guest")
        (place / "disk").mkdir()
        shutil.chown(place / "disk", "postgres", "postgres")
        disk = Disk(place / "disk", place / "source")
        disk.run(
            f"load.INITDB = tuple(set(load.INITDB) - {{'--no-instructions'}})\n"
            "os.makedirs(before)\n"
            "load._made(before, old)\n"
            "with dump.PrivateServer(old, before, 'fsync=off') as server:\n"
            f"    server.ask({CLUSTER!r})\n"
            f"    dump.noted(server.folder + '/app.sql', {APP!r})\n"
            "    server.psql('app', server.folder + '/app.sql')\n"
            "print(dump.write(before, old))"
        )
        yield disk


@pytest.fixture
def disk(dumped: Disk, tmp_path: Path) -> Iterator[Disk]:
    """A copy of it that may be changed."""
    with tempfile.TemporaryDirectory(prefix="rave-release-", dir=MEMORY) as name:
        subprocess.run(["cp", "-a", dumped.place, name], check=True)
        Path(name).chmod(0o755)
        yield Disk(Path(name) / "disk", dumped.source)


ASKED = """
with dump.PrivateServer(new, after) as server:
    print(json.dumps({
        'marker': server.ask('select said from marker'),
        'password': server.ask("select left(rolpassword, 14) from pg_authid where rolname='app'"),
        'rights': server.ask("select has_database_privilege('monitor', 'postgres', 'connect'),"
            " has_database_privilege('app', 'postgres', 'connect'),"
            " has_database_privilege('monitor', 'app', 'connect'),"
            " pg_has_role('monitor', 'pg_monitor', 'member')"),
        'sums': server.ask('show data_checksums'),
    }))
"""


def test_a_load_that_is_killed_begins_anew_and_nothing_is_lost(disk: Disk) -> None:
    assert disk.names() == ["13", "13/main", "dump"]
    assert disk.record()["databases"] == ["app", "postgres", "template1", "we'ird \\ one"]
    assert (disk.place / "dump").stat().st_mode & 0o777 == 0o700
    # Half of it is in the new cluster, whose server runs.
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    killed = disk.run(f"load._same = lambda *_: {kill}\nload.load(after, new)", check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "15/loading" in disk.names()
    # The new cluster is in its place, and the one before still there.
    killed = disk.run(f"load._tidied = lambda *_: {kill}\nload.load(after, new)", check=False)
    assert killed.returncode == -signal.SIGKILL
    assert disk.names() == ["13", "13/main", "15", "15/main", "dump"]
    disk.load()
    assert disk.names() == ["15", "15/main"]
    assert json.loads(disk.run(ASKED).stdout) == {
        "marker": ["kept"], "password": ["SCRAM-SHA-256$"], "rights": ["t|f|f|t"], "sums": ["on"],
    }  # fmt: skip
    assert disk.load().stdout.strip() == "there is nothing to do"


def test_what_is_lost_on_the_way_is_noticed(disk: Disk) -> None:
    said = (disk.place / "dump/0.txt").read_text()
    assert "public.rows|2000\n" in said
    disk.falsify("0.txt", said.replace("public.rows|2000", "public.rows|2001"))
    told = disk.refused()
    assert "database app: what was loaded is not what was dumped: public.rows|200" in told


def test_a_statement_that_fails_is_told(disk: Disk) -> None:
    disk.falsify("0.sql", "create nothing;\n")
    assert 'syntax error at or near "nothing"' in disk.refused()


def test_a_cluster_that_has_run_since_is_not_replaced(disk: Disk) -> None:
    disk.run("with dump.PrivateServer(old, before) as server: pass")
    assert "has run since its databases were dumped" in disk.refused()


@pytest.mark.parametrize("name", ["dump.json", "0.sql"])
def test_a_damaged_dump_is_not_loaded(disk: Disk, name: str) -> None:
    place = disk.place / "dump" / name
    place.write_bytes(place.read_bytes()[:-20])
    assert ("is damaged: 0.sql" if name == "0.sql" else "has no record") in disk.refused()


def test_the_system_before_removes_a_dump_that_nobody_loads(disk: Disk) -> None:
    """As after an update that was taken back; and what one that was killed has left."""
    (disk.place / "dump.new").mkdir()
    disk.run("print(load.load(before, old))")
    assert disk.names() == ["13", "13/main"]


def test_nothing_is_left_of_a_dump_that_fails(disk: Disk) -> None:
    disk.run(
        "with dump.PrivateServer(old, before) as server:\n"
        "    server.ask('alter database app allow_connections false')"
    )
    failed = disk.run("dump.write(before, old)", check=False)
    assert "a dump has not all of it: database app admits nobody" in failed.stderr
    assert disk.names() == ["13", "13/main"]
