"""What is copied from where to where, as people write it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rave_cli.machines.spec import NAME_RULE


@dataclass(frozen=True)
class Endpoint:
    """Where something is copied from or to: a path of a machine, or of this host if there is no
    machine.
    """

    machine: str | None
    path: str

    @property
    def is_stream(self) -> bool:
        """Whether it is standard input or output."""
        return self.machine is None and self.path == "-"

    @property
    def name(self) -> str:
        """The name that it keeps in a folder; empty if only what is in it is meant."""
        name = os.path.basename(self.path.rstrip("/"))  # noqa: PTH119 - keeps a final dot
        return "" if name in (".", "..") else name


def parse_endpoint(text: str) -> Endpoint:
    """Read `NAME:PATH` as scp and docker cp do; anything with a slash before its first colon is a
    path of this host. An empty path of a machine is its user's home.
    """
    name, colon, path = text.partition(":")
    if colon and NAME_RULE.fullmatch(name):
        return Endpoint(name, path or ".")
    return Endpoint(None, text)
