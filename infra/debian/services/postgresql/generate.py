"""PostgreSQL: settings, and postgres-set-<role>-password.service for each role of the plan.

Each of these units gives its role the password that lies in /run/secrets. systemd opens the file as
root and hands it to psql as standard input; it reaches PostgreSQL over the socket. No command line,
environment or log sees it. (LoadCredential= would start two more processes, which counts under
emulation.)

Usage: generate.py PLAN     prints the statements that make the plan's roles and databases, for
                            PostgreSQL's single-user mode
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PSQL = "/usr/lib/postgresql/15/bin/psql"
SQL = "/usr/lib/rave/set-role-password.sql"

_UNIT = """\
[Unit]
Description=Sets the password of the PostgreSQL role {role}
ConditionPathExists={path}
Requires=postgresql.service
After=postgresql.service rave-secrets.service

[Service]
Type=oneshot
User=postgres
StandardInput=file:{path}
ExecStart={psql} -XAtq -d postgres -v ON_ERROR_STOP=1 -v role={role} -f {sql}
CapabilityBoundingSet=
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""


def files(plan: Mapping[str, Any]) -> dict[str, str]:
    """What postgresql.conf and pg_hba.conf name, and the units."""
    settings = sorted(plan["facts"]["postgresql"]["settings"].items())
    lines = "".join(f"{name} = '{value}'\n" for name, value in settings)
    found = {f"etc/systemd/system/{name}": text for name, text in units(plan).items()}
    return {
        "etc/rave/postgresql/settings.conf": lines,
        "etc/rave/postgresql/pg_ident.conf": accounts(plan),
        **found,
    }


def accounts(plan: Mapping[str, Any]) -> str:
    """Which account of the machine comes in over the socket as which role: the one that may read
    the role's password, too. Root is the superuser there, and nobody else.
    """
    entries = {"postgres": "postgres", "root": "postgres"}
    for database in plan["databases"]:
        owner = plan["secrets"][database["secret"]]["owner"]
        entries.setdefault(owner, database["role"])
    lines = (f"rave   {account:<22}  {role}\n" for account, role in entries.items())
    return "# map  account on the machine  role\n" + "".join(lines)


def units(plan: Mapping[str, Any]) -> dict[str, str]:
    """The text of each unit by name."""
    return {
        entry["unit"]: _UNIT.format(
            role=entry["role"], path=plan["secrets"][entry["secret"]]["path"], psql=PSQL, sql=SQL
        )
        for entry in plan["databases"]
    }


def sql(plan: Mapping[str, Any]) -> list[str]:
    """Statements that make the plan's roles and databases. No role has a password yet.

    Each role gets into its own database alone; a role without one is for monitoring.
    """
    statements = [
        "REVOKE ALL ON DATABASE postgres FROM PUBLIC",
        "REVOKE ALL ON DATABASE template1 FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    ]
    for database in sorted(plan["databases"], key=lambda d: str(d["role"])):
        role, name = quoted(database["role"]), database["name"]
        statements.append(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 20")
        if name is None:
            statements.append(f"GRANT CONNECT ON DATABASE postgres TO {role}")
            statements.append(f"GRANT pg_monitor TO {role}")
            continue
        options = "TEMPLATE template0 STRATEGY file_copy"
        statements.append(f"CREATE DATABASE {quoted(name)} OWNER {role} {options}")
        statements.append(f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC")
    return statements


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write("".join(f"{statement}\n" for statement in sql(given)))
