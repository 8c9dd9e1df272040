"""`rave-guest load CLUSTER`: makes a cluster of PostgreSQL of what a system with another major
release has written of its own (dump.py), before PostgreSQL starts.

    15/loading     the new cluster, until all of it is in it and on the disk; begun anew by whoever
                   comes after one that was killed
    15/main        it is whole: the dump and the cluster of before go then, that first

Whoever goes back to the system of before has the disk of before, too: an update keeps a copy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress

from rave_guest.state import dump
from rave_guest.state.dump import Failed, PrivateServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CLUSTER = re.compile(r"[0-9]{1,3}/main")
WORK, DONE = "loading", "loaded"
# As the image's own is made (infra/debian/services/postgresql/configure).
INITDB = (
    "--no-sync", "--no-instructions", "--auth=reject", "--data-checksums", "--username=postgres",
    "--encoding=UTF8", "--locale=C", "--text-search-config=english",
)  # fmt: skip
# What is killed begins anew, so nothing needs to be on the disk before its end.
QUICK = (
    "fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal",
    "max_wal_senders=0", "min_wal_size=32MB", "max_wal_size=128MB", "shared_buffers=64MB",
    "maintenance_work_mem=64MB",
)  # fmt: skip


def load(cluster: str, programs: str) -> str:
    """Make the cluster of what a dump beside it holds; returns what was done, in words.

    Raises:
        Failed: it cannot be made; what was there before is there.
    """
    home = dump.home_of(cluster)
    place, partial = f"{home}/{dump.NAME}", f"{home}/{dump.PARTIAL}"
    shutil.rmtree(partial, ignore_errors=True)
    if os.path.exists(f"{cluster}/PG_VERSION"):
        return _tidied(cluster, place)
    if not os.path.isdir(place):
        return "there is no dump"
    record = read(place)
    old = f"{home}/{record['cluster']}"
    if sum_of_control(old) != record["control"]:
        raise Failed(
            f"PostgreSQL {record['from']} has run since its databases were dumped: what was written"
            " since would be lost"
        )
    for name, digest in record["files"].items():
        if dump.sum_of(f"{place}/{name}") != digest:
            raise Failed(f"the dump of PostgreSQL {record['from']} is damaged: {name}")
    work = f"{os.path.dirname(cluster)}/{WORK}"
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work, mode=0o700)
    _made(work, programs)
    with PrivateServer(programs, work, *QUICK) as server:
        _fill(server, place, record["databases"])
    _run([f"{programs}/initdb", "--sync-only", f"--pgdata={work}"])
    os.rename(work, cluster)
    dump.synced(os.path.dirname(cluster))
    dump.synced(home)
    _tidied(cluster, place)
    names = ", ".join(record["databases"])
    return f"the databases of PostgreSQL {record['from']} are loaded: {names}"


def read(place: str) -> dict[str, Any]:
    """Return a dump's record.

    Raises:
        Failed: this rave does not know its form.
    """
    try:
        with open(f"{place}/{dump.RECORD}", encoding="utf-8") as stream:
            record: dict[str, Any] = json.load(stream)
        known = record["v"] == dump.VERSION and CLUSTER.fullmatch(record["cluster"])
        names = [*record["files"], *record["databases"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failed(f"{place} has no record of what is in it") from error
    if not known or not all(isinstance(name, str) for name in names):
        raise Failed(f"{place} is in a form that this image does not know")
    return record


def sum_of_control(cluster: str) -> str:
    """Return the sum of a cluster's control file, or nothing if there is none."""
    try:
        return dump.sum_of(f"{cluster}/global/pg_control")
    except OSError:
        return ""


def _made(work: str, programs: str) -> None:
    _run([f"{programs}/initdb", f"--pgdata={work}", *INITDB])
    for name in ("pg_hba.conf", "pg_ident.conf"):
        os.remove(f"{work}/{name}")
    # Its own configuration is not used, see /etc/rave/postgresql.
    dump.noted(f"{work}/postgresql.conf", "")


def _fill(server: PrivateServer, place: str, names: list[str]) -> None:
    """Put everything into an empty cluster, and see whether all of it is there.

    Raises:
        Failed: a statement fails, or something differs.
    """
    globals_ = f"{server.folder}/globals.sql"
    with open(f"{place}/globals.sql", encoding="utf-8", errors="surrogateescape") as stream:
        # It is there from the beginning.
        lines = [line for line in stream if line.strip() != 'CREATE ROLE "postgres";']
    with open(globals_, "w", encoding="utf-8", errors="surrogateescape") as out:
        out.writelines(lines)
    server.psql("postgres", globals_)
    for number, name in enumerate(names):
        # Nobody drops the database that he is in.
        server.psql("template1" if name == "postgres" else "postgres", f"{place}/{number}.sql")
    server.run("vacuumdb", "--all", "--analyze-only", "--quiet")
    for number, name in enumerate(names):
        _same(f"database {name}", server.psql(name, f"{place}/counts.sql"), f"{place}/{number}.txt")
    _same("roles and rights", server.psql("postgres", f"{place}/roles.sql"), f"{place}/roles.txt")


def _same(what: str, found: str, path: str) -> None:
    with open(path, encoding="utf-8", errors="replace") as stream:
        expected = stream.read()
    if found != expected:
        lines = sorted(set(expected.splitlines()) ^ set(found.splitlines()))
        raise Failed(f"{what}: what was loaded is not what was dumped: {(lines or ['order'])[0]}")


def _tidied(cluster: str, place: str) -> str:
    """Remove a dump that is done with, and the cluster that it is of, if that is another's."""
    if not os.path.isdir(place):
        return "there is nothing to do"
    try:
        record = read(place)
    except Failed:
        # It is of no use, and this cluster is not made of it or whole.
        record = {"cluster": ""}
    old = f"{dump.home_of(cluster)}/{record['cluster']}"
    if record["cluster"] and old != cluster:
        gone = f"{os.path.dirname(old)}/{DONE}"
        if sum_of_control(old) == record["control"]:
            os.rename(old, gone)
        # Perhaps of one who was killed here.
        shutil.rmtree(gone, ignore_errors=True)
        with suppress(OSError):
            os.rmdir(os.path.dirname(old))
    shutil.rmtree(place)
    return "the dump has done its work, and is removed"


def _run(argv: list[str]) -> None:
    done = subprocess.run(
        argv, check=False, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace",
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it says nothing"]
        raise Failed(f"{os.path.basename(argv[0])}: {said[0]}")


def main(argv: list[str]) -> int:
    """Load what is to be loaded."""
    (cluster,) = argv
    cluster = os.path.realpath(cluster)
    programs = dump.PROGRAMS.format(os.path.basename(os.path.dirname(cluster)))
    os.umask(0o077)
    try:
        print(load(cluster, programs))
    except (Failed, OSError, subprocess.SubprocessError) as error:
        print(f"PostgreSQL does not start: {error}", file=sys.stderr)
        print("rave vm rollback brings back the system and the data of before", file=sys.stderr)
        return 1
    return 0
