"""How an update of a machine reads for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rave_cli.flows.update import RolledBack, UpdateReport


def difference_lines(report: UpdateReport) -> list[str]:
    """Return what an update changes, for people."""
    found, name = report.difference, report.machine.name
    if not found.changed:
        return [f"machine {name} has the newest image, {found.after[:12]}: nothing changes"]
    lines = [f"machine {name}: from image {found.before[:12]} to {found.after[:12]}"]
    if found.older:
        lines.append(
            "  older        its packages were chosen before those that the machine has: is the"
            " checkout an old one?"
        )
    lines += [f"  service      + {service}" for service in found.added]
    lines += [f"  service      - {service}" for service in found.removed]
    if found.server is not None and not found.obstacles:
        releases = f"{found.server.before} -> {found.server.after}"
        lines.append(f"  PostgreSQL   {releases}: {_anew(report)}")
    lines += [f"  new secret   {secret}" for secret in found.secrets]
    if found.packages is None:
        lines += ["  packages     an image does not say what it holds"]
    elif found.packages:
        lines += [f"  package      {change}" for change in found.packages]
    else:
        lines += ["  packages     the same; what differs is rave's own part"]
    return [*lines, *(f"  obstacle     {obstacle}" for obstacle in found.obstacles)]


def _anew(report: UpdateReport) -> str:
    """Return what another major release of PostgreSQL means."""
    text, room = "its databases are dumped and loaded anew", report.room
    if room is None:
        return f"{text}; the machine must run for that"
    return (
        f"{text}: {room.bytes >> 20} MiB of them, which takes {room.needed >> 20} MiB of room"
        f" meanwhile ({room.free >> 20} MiB are free)"
    )


def updated_lines(report: UpdateReport) -> list[str]:
    """Return what came of an update, for people."""
    tried, name = report.tried, report.machine.name
    if tried is None:
        return []
    proof = "its services are healthy"
    if tried.run is not None:
        proof += f", and the smoke suite says {tried.run.status}"
    return [
        f"updated: {proof}; it was down for {tried.downtime:.1f} s",
        f"  way back     rave vm rollback {name}   (until the next update)",
    ]


def rolled_back_lines(done: RolledBack) -> list[str]:
    """Return what a rollback has done, for people."""
    name, image = done.machine.name, done.machine.spec.image.sha256[:12]
    how = "runs" if done.ready is not None else f"is stopped: rave vm start {name}"
    return [
        f"machine {name} has image {image} and the data of {done.document()['since']}, and {how}",
        f"  set aside    {done.aside}   (rave vm rollback {name} --undo)",
    ]
