"""The certificates of machines: what they say and who trusts them, renewed, and of one's own."""

from __future__ import annotations

import re
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import Event
from rave_cli.machines import certificate, store
from rave_cli.machines.guest import connection
from rave_cli.machines.guest.door import Door
from rave_cli.machines.qemu import ports, processes
from rave_cli.tls import authority, chain, handshake
from rave_cli.tls.authority import Issued

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rave_cli.flows.events import OnEvent
    from rave_cli.machines.certificate import MachineCertificate
    from rave_cli.machines.spec import Machine
    from rave_cli.tls.chain import CertificateFacts

# Seconds: for a guest to take a certificate and nginx to show it, and for one handshake.
TAKES, SHOWS, GREETS = 60.0, 10.0, 5.0
# What the plans of images had before the host made certificates.
BEFORE = "tls/certificate"

Shown = Literal["this", "another", "not running", "no answer"]


@dataclass(frozen=True)
class CertificateState:
    """How it stands with a machine's certificate.

    Attributes:
        machine: its name.
        host: of its public origin.
        kind: `issued` by rave's authority, or `installed`.
        facts: what it says.
        trusted: whether this host's programs take it.
        shown: what its nginx shows now.
        problems: what is wrong, each with the command that helps.
    """

    machine: str
    host: str
    kind: certificate.Kind
    facts: CertificateFacts
    trusted: bool
    shown: Shown
    problems: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {
            "name": self.machine,
            "host": self.host,
            "kind": self.kind,
            **self.facts.document(datetime.now(UTC)),
            "trusted": self.trusted,
            "shown": self.shown,
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class CertificateChange:
    """What became of a machine's certificate: whether it is another one, and whether its guest
    shows it `now` or from its `next start` on.
    """

    machine: str
    changed: bool
    shown: Literal["now", "next start"]
    facts: CertificateFacts

    def document(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {
            "name": self.machine,
            "changed": self.changed,
            "shown": self.shown,
            **self.facts.document(datetime.now(UTC)),
        }


def status(name: str) -> CertificateState:
    """Look at a machine's certificate, on this host and as its nginx shows it.

    Raises:
        RaveError: USAGE if there is no such machine, or it has no certificate of this host's;
            SECRETS if its file must not be trusted.
    """
    machine = store.load(name)
    _refuse_older(machine)
    found = certificate.stored(machine)
    if found is None:
        raise RaveError(
            f"machine {name} has no certificate yet: it gets one at its next start",
            hint=f"rave vm start {name}",
            exit_code=ExitCode.USAGE,
        )
    facts, host = chain.facts(found.chain), machine.spec.public_host
    shown = _shown(machine, found)
    refused = handshake.refusal(_pair(found), host, handshake.system())
    problems = tuple(_problems(machine, found, facts, shown))
    return CertificateState(name, host, found.kind, facts, refused is None, shown, problems)


def _problems(
    machine: Machine, found: MachineCertificate, facts: CertificateFacts, shown: Shown
) -> Sequence[str]:
    name, host, days = machine.name, machine.spec.public_host, facts.days(datetime.now(UTC))
    again = (
        f"rave tls renew {name} --now"
        if found.kind == "issued"
        else f"rave tls install {name} --cert FILE --key FILE"
    )
    told = []
    if days < 0:
        told.append(f"it ended on {facts.ends:%Y-%m-%d}: {again}")
    elif days < certificate.SOON_DAYS:
        told.append(f"it ends in {days} days: {again}")
    if not chain.covers(facts.names, host):
        told.append(f"it is not for {host}: {again}")
    if found.kind == "issued" and not _of_ours(found):
        told.append(f"it is of an authority that is no longer this login's: {again}")
    if shown == "another":
        told.append(f"its nginx shows another one: rave tls renew {name}")
    return told


def _of_ours(found: MachineCertificate) -> bool:
    """Return whether this login's authority of today issued a certificate."""
    domain = authority.domain_of(found.host)
    if not authority.certificate_file(domain).exists():
        return False
    return found.chain.endswith(authority.load(domain).pem)


def renew(name: str, *, now: bool = False, issue: bool = False) -> CertificateChange:
    """Issue a machine another certificate if that is due, and have its guest show what it has.

    Args:
        name: the machine.
        now: whether it is due or not.
        issue: also in the place of one that was installed.

    Raises:
        RaveError: USAGE if there is no such machine, or it shows an installed one; SECRETS if the
            authority cannot be used; NOT_READY if its guest does not take it.
    """
    machine = store.load(name)
    _refuse_older(machine)
    with store.locked(name):
        found = certificate.stored(machine)
        if found is not None and found.kind == "installed" and not issue:
            raise RaveError(
                f"machine {name} shows a certificate of your own, which rave cannot renew",
                hint=f"rave tls install {name} --cert FILE --key FILE; or rave tls renew {name}"
                " --issue gives it one of rave's authority",
                exit_code=ExitCode.USAGE,
            )
        due = found is None or found.due(machine.spec.public_host, time.time())
        fresh = due or now or (found is not None and found.kind == "installed")
        made = certificate.issue(machine) if fresh else certificate.of(machine)
    return _change(machine, made, changed=made != found)


def install(name: str, cert: Path, key: Path) -> CertificateChange:
    """Have a machine show a certificate of one's own.

    Args:
        name: the machine.
        cert: the certificate in PEM, the server's own first, then those that issued it.
        key: its key, without a passphrase.

    Raises:
        RaveError: USAGE if there is no such machine; SECRETS if the key cannot be used, or others
            may read it; VERIFICATION if the certificate has ended, is for other names, or no chain;
            NOT_READY if the guest does not take it.
    """
    from rave_cli import paths

    machine = store.load(name)
    _refuse_older(machine)
    given = chain.own(
        paths.read_trusted(cert),
        paths.read_private(key),
        hosts(machine),
        now=datetime.now(UTC),
        places=(str(cert), str(key)),
    )
    return keep(machine, given)


def obtain(name: str, directory: str, listen: str, *, ca: Path | None) -> CertificateChange:
    """Have a machine show a certificate from a server of ACME.

    Args:
        name: the machine.
        directory: the URL of the server's directory.
        listen: `ADDRESS:PORT` of this host to which the server comes for the challenges.
        ca: whom to trust for the server itself; None takes what this host trusts.

    Raises:
        RaveError: USAGE if there is no such machine, or `listen` is none; as getting one does
            (tls/acme.py); VERIFICATION if it is not for the machine's names; NOT_READY if the guest
            does not take it.
    """
    from rave_cli.tls import acme

    machine = store.load(name)
    _refuse_older(machine)
    found = re.fullmatch(r"(?P<address>[0-9.]+):(?P<port>[0-9]{1,5})", listen)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise RaveError(
            f"--acme-listen {listen!r} is not ADDRESS:PORT",
            hint="rave tls install NAME --acme URL --acme-listen 127.0.0.1:5002",
            exit_code=ExitCode.USAGE,
        )
    names, place = hosts(machine), (found["address"], int(found["port"]))
    made = acme.obtain(directory, names, place, ca=ca)
    given = chain.own(
        made.chain.encode(), made.key.encode(), names, now=datetime.now(UTC),
        places=("the answer", "the order"),
    )  # fmt: skip
    return keep(machine, given)


def keep(machine: Machine, given: Issued) -> CertificateChange:
    """Have a machine show a certificate that was issued elsewhere.

    Raises:
        RaveError: NOT_READY if its guest does not take it; HOST if it cannot be written.
    """
    until = chain.facts(given.chain).ends.timestamp()
    host = machine.spec.public_host
    wanted = certificate.MachineCertificate("installed", host, until, given.chain, given.key)
    with store.locked(machine.name):
        before = certificate.stored(machine)
        certificate.keep(machine, wanted)
    return _change(machine, wanted, changed=wanted != before)


def hosts(machine: Machine) -> tuple[str, ...]:
    """Return the names under which people open a machine's pages: its host, and below it one for
    each application.
    """
    plan, host = store.plan(machine), machine.spec.public_host
    sites = () if plan is None else (service.site for service in plan.services.values())
    return (host, *sorted(f"{site}.{host}" for site in sites if site is not None))


def due(machine: Machine) -> bool:
    """Return whether a machine's certificate is to be renewed: only a file is looked at."""
    found = certificate.stored(machine)
    return found is not None and found.due(machine.spec.public_host, time.time())


def refresh(machine: Machine, *, on_event: OnEvent) -> None:
    """Renew the certificate of a machine that runs if that is due, and have it show what it has; if
    that fails, a warning says so: the machine does what it did before.
    """
    try:
        if not _takes(machine):
            return
        found = certificate.of(machine)
        if _shown(machine, found) == "another":
            _hand_over(machine, found)
            on_event(Event("note", "start", f"machine {machine.name} shows a new certificate"))
    except RaveError as error:
        text = f"{error.message}; rave tls status {machine.name} tells more"
        on_event(Event("warning", "start", text))


def _change(machine: Machine, made: MachineCertificate, *, changed: bool) -> CertificateChange:
    runs = processes.find(machine) is not None
    if runs:
        _hand_over(machine, made)
    shown: Literal["now", "next start"] = "now" if runs else "next start"
    return CertificateChange(machine.name, changed, shown, chain.facts(made.chain))


def _hand_over(machine: Machine, made: MachineCertificate) -> None:
    """Have a running guest show a certificate, and see that it does."""
    with connection.connect(machine) as session:
        given = {"key": made.key, "chain": made.chain}
        Door.of(machine, session).call("certificate", given, timeout=TAKES)
    until = time.monotonic() + SHOWS
    while (shown := _shown(machine, made)) != "this":
        if time.monotonic() > until:
            raise RaveError(
                f"machine {machine.name} took the certificate, and its nginx shows {shown} one"
                if shown == "another"
                else f"machine {machine.name} took the certificate, and its nginx does not answer",
                hint=f"rave vm logs {machine.name} --unit nginx.service",
                exit_code=ExitCode.NOT_READY,
            )
        time.sleep(0.1)


def _shown(machine: Machine, found: MachineCertificate) -> Shown:
    if processes.find(machine) is None:
        return "not running"
    plan = store.plan(machine)
    port = ports.of(machine).get((plan.status_port if plan else None) or 0)
    seen = None
    if port is not None:
        seen = handshake.shown(port, machine.spec.public_host, timeout=GREETS)
    if seen is None:
        return "no answer"
    first = found.chain[: found.chain.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)]
    return "this" if seen == ssl.PEM_cert_to_DER_cert(first) else "another"


def _pair(found: MachineCertificate) -> Issued:
    return Issued(found.chain, found.key)


def _takes(machine: Machine) -> bool:
    plan = store.plan(machine)
    return plan is not None and plan.status_port is not None and BEFORE not in plan.secrets


def _refuse_older(machine: Machine) -> None:
    if not _takes(machine):
        raise RaveError(
            f"machine {machine.name} is of an image that takes no certificate of its host's: what"
            " it shows comes with its secrets",
            hint=f"rave vm build-image --profile {machine.spec.profile} --base"
            f" {machine.spec.base}; machines made of that one take it",
            exit_code=ExitCode.USAGE,
        )
