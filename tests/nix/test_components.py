"""What the modules generate, given to the programs that will read it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nix.conftest import PROFILES, ROOT
from tests.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nix.conftest import Evaluator

pytestmark = pytest.mark.integration

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
NOBODY = pwd.getpwnam("nobody")
PROGRAMS = ROOT / "infra/guest"
STATEMENTS = PROGRAMS / "set-role-password.sql"
STORE = re.compile(r"/nix/store/[0-9a-z]{32}-([A-Za-z0-9._+-]+)([^ ']*)")
PASSWORD = 'it\'s "quoted" \\ and $odd`x`;'


@dataclass(frozen=True)
class PostgreSQL:
    """A server with the access rules, roles and databases of the production profile."""

    place: Path
    port: int
    databases: list[dict[str, Any]]

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        bin_directory = SERVERS[-1].parent
        return subprocess.run(
            argv, user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[], cwd=self.place,
            capture_output=True, text=True, check=False,
            env={"PATH": f"{bin_directory}:/usr/bin:/bin", "PGHOST": str(self.place),
                 "PGPORT": str(self.port), "PGUSER": "postgres"} | env,
        )  # fmt: skip

    def login(self, role: str, database: str, password: str) -> bool:
        asked = self.run(
            "psql", "-XAtc", "select current_user", "-h", "127.0.0.1", "-U", role, "-d", database,
            PGPASSWORD=password,
        )  # fmt: skip
        return asked.stdout.strip() == role


def only(text: str, *, role: str) -> str:
    """Return access rules in which the test may be the superuser without a map of accounts."""
    assert f"host {role} {role} 127.0.0.1/32 scram-sha-256" in text
    return text.replace("local all postgres peer map=postgres", "local all postgres trust")


@pytest.fixture(scope="module")
def postgresql(with_lib: Evaluator) -> Iterator[PostgreSQL]:
    if not SERVERS or os.getuid() != 0:
        pytest.skip("no PostgreSQL server here, or no right to start it as another account")
    asked = with_lib.ask(
        "{ inherit (config.services.postgresql) authentication initdbArgs;"
        " setup = config.systemd.services.postgresql-setup.script;"
        " inherit (config.rave.plan) databases;"
        " }",
        "production",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="rave-nixos-pg-") as name:
        place, port = Path(name), free_port()
        os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)
        server = PostgreSQL(place, port, asked["databases"])
        made = server.run("initdb", "-D", f"{name}/data", "-U", "postgres", *asked["initdbArgs"])
        assert made.returncode == 0, made.stderr
        (place / "hba").write_text(only(asked["authentication"], role="grafana"))
        options = f"-k {name} -p {port} -c listen_addresses=127.0.0.1 -c hba_file={name}/hba -F"
        options += " -c log_statement=all -c password_encryption=scram-sha-256"
        control = ["pg_ctl", "-D", f"{name}/data", "-w", "-l", f"{name}/log"]
        subprocess.run(
            [str(SERVERS[-1].with_name("pg_ctl")), *control[1:], "-o", options, "start"],
            user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[], cwd=place, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            for database in server.databases:
                server.run("createuser", database["role"])
                if database["name"]:
                    server.run("createdb", "-O", database["role"], database["name"])
            prepared = server.run("bash", "-e", "-c", asked["setup"])
            assert prepared.returncode == 0, prepared.stderr
            yield server
        finally:
            server.run("pg_ctl", "-D", f"{name}/data", "-m", "immediate", "stop")


def set_password(server: PostgreSQL, with_lib: Evaluator, role: str) -> None:
    """Run what the unit runs, with the password as its credential."""
    script = with_lib.ask(
        f'config.systemd.services."postgres-set-{role}-password".script', "production"
    )
    (server.place / "password").write_text(PASSWORD)
    # The file of statements lies in the store there, and in the checkout here.
    here, count = STORE.subn(str(shutil.copy(STATEMENTS, server.place)), script)
    assert count == 1
    done = server.run("bash", "-e", "-c", here, CREDENTIALS_DIRECTORY=str(server.place))
    assert done.returncode == 0, done.stderr


def test_nobody_logs_in_before_the_password_is_set(postgresql: PostgreSQL) -> None:
    assert not postgresql.login("mattermost", "mattermost", "")
    assert not postgresql.login("mattermost", "mattermost", "mattermost")


@pytest.mark.parametrize("role", ["grafana", "gitlab", "synapse", "prometheus"])
def test_a_role_gets_into_its_own_database_alone(
    postgresql: PostgreSQL, with_lib: Evaluator, role: str
) -> None:
    set_password(postgresql, with_lib, role)
    own = next(d["name"] or "postgres" for d in postgresql.databases if d["role"] == role)
    assert postgresql.login(role, own, PASSWORD)
    assert not postgresql.login(role, own, "wrong")
    assert not postgresql.login(role, "n8n", PASSWORD)
    assert PASSWORD not in (postgresql.place / "log").read_text()


def test_extensions_grants_and_collation_are_as_the_services_want(postgresql: PostgreSQL) -> None:
    def ask(database: str, question: str) -> str:
        return postgresql.run("psql", "-XAtc", question, "-d", database).stdout.strip()

    extensions = ask("gitlab", "select extname from pg_extension").split()
    assert {"pg_trgm", "btree_gist"} <= set(extensions)
    assert "uuid-ossp" in ask("outline", "select extname from pg_extension").split()
    assert ask("postgres", "select pg_has_role('prometheus', 'pg_monitor', 'member')") == "t"
    # Synapse refuses any other.
    assert ask("synapse", "select datcollate from pg_database where datname = 'synapse'") == "C"


SUBSTITUTE = """
substituteInPlace() {
  grep -qF -- "$3" "$1" || { echo "$1 does not contain $3" >&2; exit 1; }
  sed -i "s|$3|$4|" "$1"
}
"""


def test_the_guest_package_builds(evaluator: Evaluator, tmp_path: Path) -> None:
    """Runs its build with the files of this checkout in place of their copies in the store."""
    command = evaluator.ask("config.rave.guestPackage.buildCommand", "demo")
    (tmp_path / "plan.json").write_text("{}")

    def here(found: re.Match[str]) -> str:
        name = found[1]
        places = [tmp_path / name, ROOT / "src" / name, PROGRAMS / name]
        return next((str(place) for place in places if place.exists()), "/bin/sh")

    out = tmp_path / "out"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SUBSTITUTE + STORE.sub(here, command)],
        capture_output=True, text=True, check=False, env=os.environ | {"out": str(out)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {"rave-guest", "emergency", "stage.sh", "sops", "plan.json", "rave_guest"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "rave_guest/ready.py").exists()
    for program in ("rave-guest", "emergency"):
        assert os.access(out / program, os.X_OK)
        assert (out / program).read_text().startswith("#!/bin/sh")


UPSTREAM = Path("/usr/lib/systemd/system")
# What a unit of a package would bring that is not on this host.
STUB = {"service": "[Service]\nExecStart=/bin/true\n", "socket": "[Socket]\nListenStream=/x\n"}


def overrides(name: str, unit: dict[str, Any]) -> bool:
    """Whether NixOS writes a unit as a drop-in, for systemd or a package brings it.

    A service then has nothing to run, or takes back what it ran. (This host may have a package
    with a unit of that name, which proves nothing.)
    """
    if unit["overrideStrategy"] == "asDropin":
        return True
    if name.endswith(".service"):
        runs = re.findall(r"^Exec(?:Start|Stop)=(.*)$", unit["text"], re.MULTILINE)
        return not runs or "" in runs
    return (UPSTREAM / name).exists()


def write_units(units: dict[str, Any], place: Path) -> None:
    """Write units as NixOS does: whole ones, and drop-ins where upstream has the unit.

    Args:
        units: text, where they are wanted, and how they override, by name.
        place: a directory of units that comes before this host's own.
    """
    for name, unit in units.items():
        kind = name.rpartition(".")[2]
        if overrides(name, unit):
            (place / f"{name}.d").mkdir()
            (place / f"{name}.d/overrides.conf").write_text(unit["text"])
            if not (UPSTREAM / name).exists() and not name.endswith("@.service"):
                (place / name).write_text(STUB.get(kind, ""))
        else:
            (place / name).write_text(unit["text"])
        for kind, targets in (("wants", unit["wantedBy"]), ("requires", unit["requiredBy"])):
            for target in targets:
                (place / f"{target}.{kind}").mkdir(exist_ok=True)
                (place / f"{target}.{kind}" / name).symlink_to(place / name)


PENPOT = "{ services.rave.penpot = { enable = true; fetchImages = true; }; }"


@pytest.mark.parametrize(
    ("profile", "modules"), [*((profile, "") for profile in PROFILES), ("production", PENPOT)]
)
def test_the_units_form_no_ordering_cycle(
    with_nixpkgs: Evaluator, tmp_path: Path, profile: str, modules: str
) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on PATH")
    asked = with_nixpkgs.ask(
        "{ units = lib.mapAttrs"
        " (_: unit: { inherit (unit) text wantedBy requiredBy overrideStrategy; })"
        " (lib.filterAttrs (_: unit: unit.enable && unit.text != null) config.systemd.units);"
        " plan = lib.concatMap (s: s.units) (lib.attrValues config.rave.plan.services); }",
        profile,
        modules=modules,
    )
    units = asked["units"]
    assert overrides("fail2ban.service", units["fail2ban.service"])
    assert not overrides("postgresql.service", units["postgresql.service"])
    write_units(units, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", "multi-user.target"],
        capture_output=True, text=True, check=False,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:{UPSTREAM}"},
    )  # fmt: skip
    assert "ordering cycle" not in done.stderr
    # A unit that systemd drops takes no part in the graph, and proves nothing.
    dropped = [line for line in done.stderr.splitlines() if "Refusing" in line]
    ours = {*asked["plan"], "systemd-networkd.service", "rave-early.service", "rave-ready.service"}
    assert not [line for line in dropped if any(name in line for name in ours)], dropped
    wrong = [
        line for line in done.stderr.splitlines() if "/rave-" in line or "postgres-set" in line
    ]
    assert not [line for line in wrong if "Unknown" in line or "Invalid" in line], wrong


def test_a_cycle_would_be_seen(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on PATH")
    text = "[Unit]\nAfter={}.service\n[Service]\nExecStart=/bin/true\n"
    wanted = {"wantedBy": ["multi-user.target"], "requiredBy": [],
              "overrideStrategy": "asDropinIfExists"}  # fmt: skip
    units = {"a.service": wanted | {"text": text.format("b")},
             "b.service": wanted | {"text": "[Unit]\nAfter=a.service\n"}}  # fmt: skip
    write_units(units, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "multi-user.target"], capture_output=True,
        text=True, check=False, env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:{UPSTREAM}"},
    )  # fmt: skip
    assert "ordering cycle" in done.stderr
