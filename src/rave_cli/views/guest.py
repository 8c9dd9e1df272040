"""How machines that may ask the pool are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rave_cli import shapes

if TYPE_CHECKING:
    from rave_cli.pool.guests.terms import GuestTerms, PoolGuest
    from rave_cli.pool.jobs.history import OwnerBurden
    from rave_cli.show import Line, Show


def guest_document(guest: PoolGuest, burden: OwnerBurden | None) -> dict[str, Any]:
    """Return what `--json` shows of a machine that may ask, and what it uses, if that is known."""
    document = {"name": guest.machine.name, "owner": guest.owner, **shapes.plain(guest.terms)}
    return document | ({} if burden is None else {"uses": shapes.plain(burden)})


def guest_told(guest: PoolGuest) -> str:
    """Return what is said once a machine may ask."""
    terms = guest.terms
    return (
        f"machine {guest.machine.name} may ask the pool: {terms.jobs} jobs at a time,"
        f" {terms.per_hour} an hour, each {_each(terms)}"
    )


def guest_rows(show: Show, uses: list[tuple[PoolGuest, OwnerBurden]]) -> list[Line]:
    """Return a table of machines and what they use of their bounds."""
    columns = ("machine", "a job may have", "open", "in an hour", "kept MiB")
    rows = [
        (
            guest.machine.name,
            _each(guest.terms),
            f"{burden.open} of {guest.terms.jobs}",
            f"{burden.lately} of {guest.terms.per_hour}",
            f"{burden.kept >> 20} of {guest.terms.kept_mib}",
        )
        for guest, burden in uses
    ]
    return show.table(columns, rows)


def _each(terms: GuestTerms) -> str:
    sizes = [f"{terms.timeout:g} s"]
    if terms.memory_mib is not None:
        sizes.append(f"{terms.memory_mib} MiB")
    if terms.cpus is not None:
        sizes.append(f"{terms.cpus} CPUs")
    return ", ".join(sizes)
