"""Who may command what: by groups of the identity provider, in named rooms; nobody else."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read where values are made
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from rave_platform.domain.chat.commands import Verb

NOBODY: Mapping[str, frozenset[Verb]] = MappingProxyType({})


@dataclass(frozen=True)
class ChatPermissions:
    """The rooms in which commands are obeyed, and what each group may command there."""

    rooms: frozenset[str] = frozenset()
    granted: Mapping[str, frozenset[Verb]] = field(default_factory=lambda: NOBODY)

    def verbs(self, groups: AbstractSet[str]) -> frozenset[Verb]:
        """Return what a member of these groups may command."""
        return frozenset().union(*(self.granted.get(group, frozenset()) for group in groups))

    def groups(self, verb: Verb) -> tuple[str, ...]:
        """Return which groups may command something."""
        return tuple(sorted(group for group, verbs in self.granted.items() if verb in verbs))
