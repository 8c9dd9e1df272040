"""The certificate of a machine's pages: issued on this host, or somebody's own that was installed.

The host makes it, not the guest: it has every other key of the machine, too, none of them on the
machine's disk, and a guest under emulation takes tenths of a second for what takes a host one
thousandth. It is kept beside these keys, so that a machine shows the same one at each start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - the places of records
from typing import TYPE_CHECKING, Literal

from rave_cli import paths
from rave_cli.errors import ExitCode
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

RECORD = "certificate.json"
# Seconds: a third of what an issued one lasts (tls/authority.py).
RENEW = 30 * 86400.0
# One that ends sooner is told of, as the alert does (infra/catalog/facts/alerts.nix).
SOON_DAYS = 14

Kind = Literal["issued", "installed"]


@dataclass(frozen=True)
class MachineCertificate:
    """A certificate with its key, for a host: `issued` by rave's authority, which renews it, or
    `installed` by somebody, who does.

    Attributes:
        kind: which of the two.
        host: of the public origin for which it was made.
        until: seconds since 1970 at which it ends.
        chain: in PEM, the server's own first.
        key: in PEM.
    """

    kind: Kind
    host: str
    until: float
    chain: str
    key: str = field(repr=False)

    def due(self, host: str, now: float) -> bool:
        """Return whether rave is to issue another one, for a host."""
        return self.kind == "issued" and (self.host != host or self.until - now < RENEW)


CERTIFICATE = RecordFormat(
    title="the certificate of a machine",
    shape=MachineCertificate,
    version=1,
    exit_code=ExitCode.SECRETS,
)


def place(machine: Machine) -> Path:
    """Return where a machine's certificate lies."""
    return machine.identity / RECORD


def stored(machine: Machine) -> MachineCertificate | None:
    """Return the certificate that a machine has; None if it has had none yet.

    Raises:
        RaveError: SECRETS if its file must not be trusted or is damaged; HOST if it cannot be read.
    """
    where = place(machine)
    with paths.refusing(where):
        if not where.exists() and not where.is_symlink():
            return None
    hint = f"mv {where} ELSEWHERE   (then rave issues another one)"
    return CERTIFICATE.parse(paths.read_private(where), where, hint=hint)


def load() -> None:
    """Load what issuing takes, which is longer than issuing; nothing is written."""
    from datetime import UTC, datetime

    from rave_cli.tls import authority

    now = datetime.now(UTC)
    authority.issue(authority.make(authority.LOCAL, now=now), authority.LOCAL, now=now)


def of(machine: Machine) -> MachineCertificate:
    """Return the certificate that a machine is to show, issued if it has none, or it is due.

    Raises:
        RaveError: as `stored`, and as rave's authority is read and made (tls/authority.py).
    """
    found = stored(machine)
    if found is None or found.due(machine.spec.public_host, time.time()):
        return issue(machine)
    return found


def issue(machine: Machine) -> MachineCertificate:
    """Issue a machine another certificate, in the place of the one it has.

    Raises:
        RaveError: as `of`; HOST if it cannot be written.
    """
    # Only now: most starts issue nothing, and cryptography takes long to import.
    from datetime import UTC, datetime

    from rave_cli.tls import authority

    host, now = machine.spec.public_host, datetime.now(UTC)
    issued = authority.issue(authority.of(host, now=now), host, now=now)
    until = (now + authority.LEAF_LIFE).timestamp()
    return keep(machine, MachineCertificate("issued", host, until, issued.chain, issued.key))


def keep(machine: Machine, certificate: MachineCertificate) -> MachineCertificate:
    """Make a certificate a machine's own, from its next start on, and return it.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    CERTIFICATE.write(place(machine), certificate, mode=0o600)
    return certificate
