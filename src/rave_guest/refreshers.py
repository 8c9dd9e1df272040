"""The units postgres-set-<role>-password.service of a plan, as text; used when an image is built.

Each gives its role the password that lies in /run/secrets. systemd opens the file as root and hands
it to psql as standard input; it reaches PostgreSQL over the socket. No command line, environment or
log sees it. (LoadCredential= would start two more processes, which counts under emulation.)
"""

from __future__ import annotations

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


def units(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each refresher of a plan by unit name."""
    return {
        entry["unit"]: _UNIT.format(
            role=entry["role"], path=plan["secrets"][entry["secret"]]["path"], psql=PSQL, sql=SQL
        )
        for entry in plan["databases"]
    }
