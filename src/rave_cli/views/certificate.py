"""How the certificates of machines are shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rave_cli.flows.certificates import CertificateChange, CertificateState
    from rave_cli.flows.trusting import TrustReport


def status_rows(found: CertificateState) -> list[tuple[str, str]]:
    """Return what there is to say of a certificate, for a table."""
    facts = found.facts
    kind = {"issued": "rave's authority", "installed": "your own"}[found.kind]
    return [
        ("machine", found.machine),
        ("certificate", kind),
        ("issuer", facts.issuer),
        ("names", ", ".join(facts.names)),
        ("valid", f"{facts.begins:%Y-%m-%d} to {facts.ends:%Y-%m-%d}"),
        ("days left", str(facts.days(datetime.now(UTC)))),
        ("sha256", facts.fingerprint),
        ("this host trusts it", "yes" if found.trusted else "no (rave tls trust tells how)"),
        (
            "nginx shows",
            {"this": "this one", "another": "another one"}.get(found.shown, found.shown),
        ),
    ]


def change_line(done: CertificateChange) -> str:
    """Return a line on what became of a certificate."""
    what = "a new certificate" if done.changed else "its certificate as it was"
    when = "now" if done.shown == "now" else "from its next start on"
    return f"{done.machine} shows {what} {when}, until {done.facts.ends:%Y-%m-%d}"


def trust_lines(done: TrustReport) -> list[str]:
    """Return the lines that tell how an authority comes to be trusted, or that it is."""
    lines = [f"{done.certificate} (sha256 {done.facts.fingerprint})"]
    lines += [f"can issue for {done.domain} and names below it, and for loopback; nothing else"]
    if done.added is None:
        return [*lines, *done.steps]
    told = "this host trusts it now" if done.added else "this host trusts it already"
    return [*lines, told, f"browsers: {done.steps[-1]}"]
