"""Two ways to put secrets in force, each of which can be taken back.

On the Debian base rave places the files itself. On NixOS sops-nix does, at each boot and now: it
reads the encrypted file where it is kept, decrypts it with the machine's identity and renders its
templates.
"""

from __future__ import annotations

from rave_guest.secrets import generations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from rave_guest.secrets.store import KeptSecrets

    class Placement(Protocol):
        """Secrets on their way into force."""

        def put(self) -> None:
            """Put them in force."""

        def take_back(self) -> None:
            """Put in force what was before."""

        def settle(self) -> None:
            """They stay: what was before is removed."""


SOPS_NIX = "sops-install-secrets.service"


class Direct:
    """We write a generation. Nothing is written if `entries` is what is in force already."""

    def __init__(
        self,
        place: generations.Place,
        entries: Mapping[str, generations.SecretFile],
        *,
        stale: bool,
    ) -> None:
        """`stale` says whether what is in force differs from `entries`."""
        self._place, self._entries, self._stale = place, entries, stale
        self._old = self._new = generations.current(place)

    def put(self) -> None:
        """Write a generation and point /run/secrets at it."""
        if self._stale or self._old is None:
            self._new = generations.write(self._place, self._entries)
            generations.enforce(self._place, self._new)

    def take_back(self) -> None:
        """Point /run/secrets at the generation of before."""
        generations.enforce(self._place, self._old)
        generations.keep_only(self._place, self._old)

    def settle(self) -> None:
        """Remove the generation of before."""
        generations.keep_only(self._place, self._new)


class SopsNix:
    """sops-nix writes the generation: the files it reads are replaced, then it runs."""

    def __init__(
        self,
        place: generations.Place,
        before: KeptSecrets,
        *,
        keep: Callable[[], None],
        restore: Callable[[KeptSecrets], None],
        restart: Callable[[str], None],
    ) -> None:
        """`keep` stores the new files, `restore` those of before, `restart` restarts a unit."""
        self._place, self._before = place, before
        self._keep, self._restore, self._restart = keep, restore, restart

    def put(self) -> None:
        """Store the new files and let sops-nix install them."""
        self._keep()
        self._restart(SOPS_NIX)

    def take_back(self) -> None:
        """Let sops-nix install what it had; without anything, /run/secrets goes."""
        self._restore(self._before)
        if self._before.file is None:
            generations.enforce(self._place, None)
        self._restart(SOPS_NIX)

    def settle(self) -> None:
        """sops-nix removes old generations itself."""
