"""Ask a scanner of the host for known holes in what an image is made of."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import image
from rave_cli.images import scanners
from rave_cli.images.scanners import SCANNERS, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Collection

    from rave_cli.images.scanners import Hole, Scanner, Severity
    from rave_cli.profiles.catalog import Plan
    from rave_cli.settings import Settings

TIMEOUT = 900.0  # seconds: some fetch their data first


@dataclass(frozen=True)
class Scan:
    """What a scanner found.

    Attributes:
        of: in words, what was looked at.
        scanner: which looked.
        holes: known ones, the worst first.
        refused: those of them that a policy refuses.
        unmet: ids that are accepted, and are in nothing of the image.
    """

    of: str
    scanner: str
    holes: tuple[Hole, ...]
    refused: tuple[Hole, ...]
    unmet: tuple[str, ...]

    @property
    def document(self) -> dict[str, object]:
        """Return it as JSON carries it."""
        return {
            "ok": not self.refused,
            "of": self.of,
            "scanner": self.scanner,
            "holes": [hole.document for hole in self.holes],
            "refused": [hole.document for hole in self.refused],
            "unmet": list(self.unmet),
        }


def choose(name: str | None) -> tuple[Scanner, str]:
    """Return the scanner of this name, or the first that the host has, and where it is.

    Raises:
        RaveError: HOST if the host has none.
    """
    names = list(SCANNERS) if name is None else [name]
    for one in names:
        place = process.find(one)
        if place is not None:
            return SCANNERS[one], place
    raise RaveError(
        f"not on PATH: {', '.join(names)}",
        hint="grype and trivy come from their makers; apt-get install debsecan   (knows Debian's"
        " packages alone, and fetches its data anew at each run)",
        exit_code=ExitCode.HOST,
    )


def scan(
    plan: Plan,
    settings: Settings,
    *,
    scanner: str | None,
    refuse: Severity | None,
    accept: Collection[str],
) -> Scan:
    """Return what is known of a plan's image: the one that is there, else of the checkout's lock.

    Args:
        plan: of the Debian base.
        settings: where the flake is.
        scanner: which is asked; else the first of SCANNERS that the host has.
        refuse: holes of at least this severity are refused; None refuses none.
        accept: ids that are not.

    Raises:
        RaveError: HOST if there is no scanner, or it fails; as `image.bill`.
    """
    lock, _, of = image.locked(plan, settings)
    asked, program = choose(scanner)
    lock = scanners.shipped(lock)
    suite = lock.requested.archives[0].suites[0] if lock.requested.archives else "GENERIC"
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "packages"
        given.write_bytes(asked.given(lock))
        done = process.run([program, *asked.argv(str(given), suite)], timeout=TIMEOUT)
    if not done.ok:
        raise RaveError(
            f"{asked.name} ended with {done.returncode}, so nothing is known of {of}",
            detail=done.tail(),
            hint="most scanners fetch their data first: try again with a network",
            exit_code=ExitCode.HOST,
        )
    try:
        holes = scanners.holes(asked, done.text, lock)
    except ValueError as error:
        raise RaveError(
            f"{asked.name} said something that is not understood, so nothing is known of {of}",
            detail=(str(error)[:500],),
            hint=f"another of {', '.join(SCANNERS)}: rave image scan --scanner NAME",
            exit_code=ExitCode.HOST,
        ) from error
    least = len(SEVERITIES) if refuse is None else SEVERITIES.index(refuse)
    refused = tuple(
        hole for hole in holes
        if SEVERITIES.index(hole.severity) >= least and hole.id not in accept
    )  # fmt: skip
    unmet = tuple(sorted(set(accept) - {hole.id for hole in holes}))
    return Scan(of, asked.name, holes, refused, unmet)
