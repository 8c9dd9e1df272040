"""A real PostgreSQL: the refresher sets a password, and the take-over is proven over SCRAM."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.secrets import values
from rave_guest.proof import Unproven
from rave_guest.secrets import proofs
from tests.debian import part
from tests.postgres import NEEDED, Server, free_port, program, running
from tests.sops import secret

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
refreshers = part("postgresql")
SQL = ROOT / "infra/guest/set-role-password.sql"

pytestmark = [pytest.mark.integration, *NEEDED]

# What a password may be: every printable character, and quotes above all.
PASSWORDS = ("plain-and-simple-0123456789", "it's \"quoted\" \\ and $odd`x`; -- :'role'", "'" * 20)


class Cluster(Server):
    """A running server of the role `postgres` with the roles `alpha` and `beta`."""

    def set_password(self, role: str, password: str) -> None:
        """Do what the unit does: the secret's file is standard input."""
        unit = refreshers.units(plan(self.port))[f"postgres-set-{role}-password.service"]
        rows = dict(row.partition("=")[::2] for row in unit.splitlines() if "=" in row)
        assert rows["StandardInput"] == f"file:/run/secrets/database/{role}"
        argv = rows["ExecStart"].replace(refreshers.PSQL, program("psql"))
        argv = argv.replace(refreshers.SQL, str(shutil.copy(SQL, self.place)))
        self.run(
            [*argv.split(), "-h", str(self.place), "-p", str(self.port), "-U", "postgres"],
            input=password,
        )


def plan(port: int) -> dict[str, Any]:
    return {
        "services": {"postgresql": {"ports": [{"name": "postgresql", "port": port}]}},
        "databases": [
            {"role": role, "name": None, "secret": f"database/{role}",
             "unit": f"postgres-set-{role}-password.service"}
            for role in ("alpha", "beta")
        ],
        "secrets": {
            f"database/{role}": {"path": f"/run/secrets/database/{role}", "proof": "postgresql"}
            for role in ("alpha", "beta")
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running() as server:
        server.sql("create role alpha login; create role beta login")
        yield Cluster(server.place, server.port)


def prove(cluster: Cluster, values: dict[str, str], before: dict[str, str]) -> list[dict[str, Any]]:
    change = proofs.SecretChange(
        {f"database/{role}": value.encode() for role, value in values.items()},
        {f"database/{role}": value.encode() for role, value in before.items()},
    )
    return proofs.prove(plan(cluster.port), change, 0.2)


@pytest.mark.parametrize("password", PASSWORDS)
def test_the_role_takes_its_password(cluster: Cluster, password: str) -> None:
    cluster.set_password("alpha", password)
    (proof,) = prove(cluster, {"alpha": password}, {})
    assert proof["service"] == "postgresql:alpha"
    assert proof["accepted"]
    assert proof["refused"] == ["wrong"]
    assert password not in str(proof)


KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "password",
    ["md5" + "0123456789abcdef" * 2, f"SCRAM-SHA-256$4096:c2FsdA==${KEY}:{KEY}"],
)
def test_a_password_that_looks_like_a_hash_admits_nobody(cluster: Cluster, password: str) -> None:
    """`validate` and `edit` refuse it, so that it does not get here."""
    cluster.set_password("alpha", password)
    with pytest.raises(Unproven):
        prove(cluster, {"alpha": password}, {})
    rule = secret(kind="password", length=32)
    assert [one.code for one in values.check({"alpha": password}, {"alpha": rule})] == ["value"]


def test_the_previous_password_is_refused(cluster: Cluster) -> None:
    cluster.set_password("alpha", PASSWORDS[0])
    cluster.set_password("alpha", PASSWORDS[1])
    (proof,) = prove(cluster, {"alpha": PASSWORDS[1]}, {"alpha": PASSWORDS[0]})
    assert proof["refused"] == ["previous"]


def test_a_role_that_kept_its_old_password_is_not_proven(cluster: Cluster) -> None:
    cluster.set_password("alpha", PASSWORDS[0])
    with pytest.raises(Unproven, match="refuses the installed password"):
        prove(cluster, {"alpha": PASSWORDS[1]}, {"alpha": PASSWORDS[0]})


def test_a_role_without_password_is_refused(cluster: Cluster) -> None:
    with pytest.raises(Unproven, match=r"postgresql:beta: .*28P01"):
        prove(cluster, {"beta": PASSWORDS[0]}, {})


def test_no_password_reaches_the_log(cluster: Cluster) -> None:
    for password in PASSWORDS:
        cluster.set_password("alpha", password)
    assert "set log_statement" in cluster.log.lower()
    assert not any(password in cluster.log for password in PASSWORDS[:2])
    assert "ALTER ROLE" not in cluster.log


def test_a_server_that_is_away_is_not_proven() -> None:
    change = proofs.SecretChange({"database/alpha": b"x"}, {})
    with pytest.raises(Unproven, match="postgresql:alpha: "):
        proofs.prove(plan(free_port()), change, 0.1)
