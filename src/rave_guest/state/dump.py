"""Writes what a cluster of PostgreSQL holds as SQL, for a server of another major release.

    python3 -I - look CLUSTER          says how large it is, and what room there is
    python3 -I - write CLUSTER         stops who uses it, and writes it

It runs in a system that is about to be replaced. The host sends it there, so it imports nothing of
rave's, and images that know nothing of it can be left, too. Beside the cluster's release
(`15/main`) there is then

    dump/globals.sql   roles with their passwords' hashes
    dump/N.sql         a database with its rights
    dump/N.txt         what counts.sql says of it: names of its tables, how many rows each has
    dump/roles.txt     what roles.sql says
    dump/dump.json     which cluster it is of, and the sums of all of them

`dump.new` until all of it is on the disk. The cluster is named by the sum of its control file,
which each start and stop of a server changes: a dump of what it was earlier is none of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

VERSION = 1
NAME, PARTIAL, RECORD = "dump", "dump.new", "dump.json"
PLAN = "/usr/lib/rave/plan.json"
PROGRAMS = "/usr/lib/postgresql/{}/bin"
SUPERUSER = "postgres"
# As long as this is there, systemd starts no server of it; a boot begins without.
HELD = "/run/systemd/system/postgresql.service.d/90-dumped.conf"
STOPS = 120.0  # seconds for units, or a server, to stop
STARTS = 600.0  # seconds for a server to start: it may have to recover
# Bytes beside a dump and a second cluster, neither much larger than the first one: templates
# and log of the new one, and what its server sorts.
MORE = 320 << 20

# What is the same before and after, in both releases' catalogs.
COUNTS = r"""
select format('select %L, count(*) from %I.%I',
    n.nspname || '.' || c.relname, n.nspname, c.relname)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'm') and c.relpersistence <> 't'
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_'
  order by n.nspname collate "C", c.relname collate "C" \gexec
select format('select %L, last_value, is_called from %I.%I',
    n.nspname || '.' || c.relname, n.nspname, c.relname)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'S' and c.relpersistence <> 't' and n.nspname !~ '^pg_'
  order by n.nspname collate "C", c.relname collate "C" \gexec
select c.relkind, n.nspname, c.relname, pg_get_userbyid(c.relowner)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'm', 'v', 'i', 'p', 'I', 'S', 'f') and c.relpersistence <> 't'
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_'
  order by n.nspname collate "C", c.relname collate "C";
select 'large objects', count(*), coalesce(sum(length(data)), 0) from pg_largeobject;
"""
ROLES = """
select rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
    rolbypassrls, rolconnlimit, rolvaliduntil,
    encode(sha256(convert_to(coalesce(rolpassword, ''), 'UTF8')), 'hex')
  from pg_authid where rolname !~ '^pg_' order by rolname collate "C";
select datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype,
    datconnlimit, array(select unnest(coalesce(datacl, acldefault('d', datdba)))::text
      collate "C" order by 1)
  from pg_database where datallowconn order by datname collate "C";
"""
# What a dump does not have, or cannot be loaded where it is.
REFUSED = """
select 'database ' || datname || ' admits nobody' from pg_database
  where not datallowconn and datname <> 'template0'
union all select 'tablespace ' || spcname || ' lies elsewhere' from pg_tablespace
  where spcname !~ '^pg_'
union all select 'a prepared transaction waits in ' || database from pg_prepared_xacts;
"""
# Of what there always is a copy that differs takes the place.
ALWAYS = ("postgres", "template1")


class Failed(Exception):  # noqa: N818 - as Refused is
    """It cannot be done; why, in a sentence."""


class PrivateServer:
    """A server of a cluster that nobody else reaches: its socket is in a directory of its own."""

    def __init__(self, programs: str, cluster: str, *settings: str) -> None:
        self.programs, self.cluster, self.settings = programs, cluster, settings
        self.folder = ""

    def __enter__(self) -> PrivateServer:
        self.folder = tempfile.mkdtemp(prefix="rave-", dir=os.environ.get("RUNTIME_DIRECTORY"))
        self.told = open(f"{self.folder}/log", "w+", encoding="utf-8", errors="replace")
        for name, text in (("conf", ""), ("hba", "local all postgres peer\n"), ("ident", "")):
            with open(f"{self.folder}/{name}", "w", encoding="utf-8") as stream:
                stream.write(text)
        places = {
            "config_file": "conf", "hba_file": "hba", "ident_file": "ident",
        }  # fmt: skip
        settings = [f"{name}={self.folder}/{file}" for name, file in places.items()]
        settings += [f"unix_socket_directories={self.folder}", "listen_addresses=", "port=5432"]
        settings += ["autovacuum=off", "jit=off", "lc_messages=C", *self.settings]
        words = [word for setting in settings for word in ("-c", setting)]
        argv = [f"{self.programs}/postgres", "-D", self.cluster, *words]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self.told, stderr=self.told, cwd="/"
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait(self) -> None:
        until = time.monotonic() + STARTS
        argv = [f"{self.programs}/pg_isready", "-q", "-h", self.folder, "-p", "5432"]
        while subprocess.run(argv, check=False, cwd="/").returncode:
            if self.process.poll() is not None:
                raise Failed(f"the server of {self.cluster} does not start: {self.last()}")
            if time.monotonic() > until:
                raise Failed(f"the server of {self.cluster} does not get ready: {self.last()}")
            time.sleep(0.2)

    def last(self) -> str:
        """Return the last line that the server has said."""
        self.told.seek(0)
        return (self.told.read().strip().splitlines() or ["it says nothing"])[-1]

    def run(self, program: str, *argv: str) -> str:
        """Run one of PostgreSQL's programs with this server, and return what it said.

        Raises:
            Failed: it fails; its first line, which the others follow from.
        """
        at = ["-h", self.folder, "-p", "5432", "-U", SUPERUSER]
        done = subprocess.run(
            [f"{self.programs}/{program}", *at, *argv], check=False, cwd="/",
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "NOTICE" not in line]
            raise Failed(f"{program}: {(said or ['it says nothing'])[0]}")
        return done.stdout

    def psql(self, database: str, file: str) -> str:
        """Run a file's statements, and stop at the first that fails."""
        argv = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", f"dbname='{quoted(database)}'", "-f", file]
        return self.run("psql", *argv)

    def ask(self, question: str) -> list[str]:
        """Return the lines of an answer."""
        path = f"{self.folder}/question.sql"
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(question)
        return self.psql("postgres", path).splitlines()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOPS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        code, last = self.process.returncode, self.last()
        self.told.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if kind is None and code:
            raise Failed(f"the server of {self.cluster} does not end in order: {last}")


def quoted(name: str) -> str:
    """Return a name as a value within quotes of a connection string (libpq, 34.1.1.1)."""
    return name.replace("\\", "\\\\").replace("'", "\\'")


def major(cluster: str) -> int:
    """Return the release that a cluster is of.

    Raises:
        Failed: it is none.
    """
    try:
        with open(f"{cluster}/PG_VERSION", encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError) as error:
        raise Failed(f"{cluster} is no cluster of PostgreSQL") from error


def home_of(cluster: str) -> str:
    """Return the directory in which each release has its own: of 15/main what 15 is in."""
    return os.path.dirname(os.path.dirname(cluster))


def look(cluster: str) -> dict[str, Any]:
    """Return the bytes that a cluster's databases take, that there must be free, and that are."""
    size = 0
    for part in ("base", "global"):
        for folder, _, names in os.walk(f"{cluster}/{part}"):
            size += sum(os.lstat(f"{folder}/{name}").st_size for name in names)
    room = os.statvfs(cluster)
    return {
        "v": VERSION, "major": major(cluster), "bytes": size, "needed": 2 * size + MORE,
        "free": room.f_bavail * room.f_frsize,
    }  # fmt: skip


def hold() -> None:
    """Stop who has a database, then PostgreSQL itself, and let nobody start it until the next boot.

    Raises:
        Failed: they do not stop.
    """
    with open(PLAN, encoding="utf-8") as stream:
        plan = json.load(stream)
    owners = [database.get("service") for database in plan["databases"]]
    users = [unit for name in owners if name in plan["services"]
             for unit in plan["services"][name]["units"]]  # fmt: skip
    os.makedirs(os.path.dirname(HELD), exist_ok=True)
    with open(HELD, "w", encoding="utf-8") as out:
        out.write("[Unit]\nConditionPathExists=/run/rave/another-release-is-loaded\n")
    steps = (["daemon-reload"], ["stop", "--", *users], ["stop", "--", "postgresql.service"])
    for step in steps:
        if step[-1] == "--":
            continue
        done = subprocess.run(
            ["/usr/bin/systemctl", *step], check=False, capture_output=True, text=True,
            timeout=STOPS,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it says nothing"]
            raise Failed(f"systemctl {step[0]}: {said[-1]}")


def become(name: str) -> None:
    """Go on as another account."""
    account = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ.clear()
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL="C.UTF-8", HOME="/")


def write(cluster: str, programs: str = "") -> dict[str, Any]:
    """Write what a cluster holds, whose server has ended; returns what dump.json has.

    Raises:
        Failed: it cannot; nothing of it is left then, and the cluster is as it was.
    """
    began, release, home = time.monotonic(), major(cluster), home_of(cluster)
    partial = f"{home}/{PARTIAL}"
    for name in (NAME, PARTIAL):
        shutil.rmtree(f"{home}/{name}", ignore_errors=True)
    os.mkdir(partial, 0o700)
    try:
        with PrivateServer(programs or PROGRAMS.format(release), cluster) as server:
            names = _write(server, partial)
        record = {
            "v": VERSION, "from": release, "cluster": os.path.relpath(cluster, home),
            "control": sum_of(f"{cluster}/global/pg_control"), "databases": names,
            "files": {name: sum_of(f"{partial}/{name}") for name in sorted(os.listdir(partial))},
            "bytes": sum(entry.stat().st_size for entry in os.scandir(partial)),
            "seconds": round(time.monotonic() - began, 3),
        }  # fmt: skip
        with open(f"{partial}/{RECORD}", "w", encoding="utf-8") as out:
            json.dump(record, out)
        for name in (*os.listdir(partial), "."):
            synced(f"{partial}/{name}")
        os.rename(partial, f"{home}/{NAME}")
        synced(home)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise Failed(f"{error.filename or partial}: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return record


def _write(server: PrivateServer, folder: str) -> list[str]:
    if problems := server.ask(REFUSED):
        raise Failed(f"a dump has not all of it: {problems[0]}")
    for name, text in (("counts.sql", COUNTS), ("roles.sql", ROLES)):
        with open(f"{folder}/{name}", "w", encoding="utf-8") as out:
            out.write(text)
    everywhere = "--quote-all-identifiers"
    server.run("pg_dumpall", "--globals-only", everywhere, f"--file={folder}/globals.sql")
    names = json.loads("".join(server.ask(
        "select json_agg(datname order by datname) from pg_database where datallowconn"
    )))  # fmt: skip
    for number, name in enumerate(names):
        always = ["--clean", "--if-exists"] if name in ALWAYS else []
        server.run(
            "pg_dump", "--create", *always, everywhere,
            f"--file={folder}/{number}.sql", f"--dbname=dbname='{quoted(name)}'",
        )  # fmt: skip
        noted(f"{folder}/{number}.txt", server.psql(name, f"{folder}/counts.sql"))
    noted(f"{folder}/roles.txt", server.psql("postgres", f"{folder}/roles.sql"))
    return [str(name) for name in names]


def noted(path: str, text: str) -> None:
    """Write a file."""
    with open(path, "w", encoding="utf-8", errors="replace") as out:
        out.write(text)


def sum_of(path: str) -> str:
    """Return a file's SHA-256 in hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def synced(path: str) -> None:
    """Let what was written be on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def main(argv: list[str]) -> int:
    """Do what is asked for, and say what came of it."""
    verb, cluster = argv
    cluster = os.path.realpath(cluster)
    os.umask(0o077)
    try:
        if verb == "write":
            hold()
            become(SUPERUSER)
            print(json.dumps(write(cluster)))
        else:
            print(json.dumps(look(cluster)))
    except (Failed, OSError, subprocess.SubprocessError) as error:
        print(f"rave: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
