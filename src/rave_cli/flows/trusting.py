"""Let this host trust an authority of rave's: told, or done on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.machines import store
from rave_cli.tls import authority, trust
from rave_cli.tls.chain import facts_of

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.tls.chain import CertificateFacts


@dataclass(frozen=True)
class TrustReport:
    """An authority, and what it takes to trust it.

    Attributes:
        domain: for which it issues, beside loopback.
        certificate: where it lies.
        facts: what it says.
        steps: the commands by which it comes to be trusted.
        added: whether it was added to this host's store now; None if nobody asked for that.
    """

    domain: str
    certificate: Path
    facts: CertificateFacts
    steps: tuple[str, ...]
    added: bool | None

    def document(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {
            "domain": self.domain,
            "certificate": str(self.certificate),
            "sha256": self.facts.fingerprint,
            "notAfter": self.facts.ends.isoformat(),
            "steps": list(self.steps),
            "added": self.added,
        }


def authority_of(name: str | None, *, apply: bool) -> TrustReport:
    """Tell how this host comes to trust the authority of a machine, or without one that of
    localhost, which is made on first use; `apply` does it.

    Raises:
        RaveError: USAGE if there is no such machine; SECRETS if the authority cannot be used; HOST
            if this host has no store, or it may not be written.
    """
    host = authority.LOCAL if name is None else store.load(name).spec.public_host
    found = authority.of(host)
    place = authority.certificate_file(found.domain)
    facts = facts_of(found.certificate)
    # Several logins of a host may each have one.
    name = f"rave-{found.domain}-{facts.fingerprint[:8]}"
    there = trust.store()
    added = trust.add(place, name, there) if apply else None
    return TrustReport(found.domain, place, facts, trust.steps(place, name, there), added)
