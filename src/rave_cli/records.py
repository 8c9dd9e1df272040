"""Records: files that rave writes and reads back, whichever version of rave wrote them.

A record says its version. An older one is upgraded step by step while it is read; a newer one and a
damaged one are named and left as they are. Reading never writes: whoever goes back to the rave of
before finds the record that it knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rave_cli import paths, shapes
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import ValidationError

T = TypeVar("T")

Document = dict[str, Any]
Upgrade = Callable[[Document], Document]

# How many faults of one record are told.
MOST_FAULTS = 4


class NewerRecordError(RaveError):
    """The record was made by a newer rave than this one."""

    reason = "record-newer"


class DamagedRecordError(RaveError):
    """The record is not what its version says it should be."""

    reason = "record-damaged"


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The versions of a kind of record, and how one of an older version becomes one of today's.

    Attributes:
        title: what it is, for messages: `the record of a machine`.
        version: today's.
        upgrades: for each version that was ever released what makes the next one of it. Faults in
            the document that it gets are left for the validation.
        member: the name under which a record says its version.
        unversioned: what version a record is that does not say; None if each must.
        exit_code: of the errors.
    """

    title: str
    version: int
    upgrades: Mapping[int, Upgrade] = field(default_factory=dict)
    member: str = "version"
    unversioned: int | None = None
    exit_code: ExitCode = ExitCode.HOST

    def upgraded(self, document: object, place: Path, *, hint: str) -> Document:
        """Return the members of a parsed document as today's version has them, not validated.

        Args:
            document: what the file `place` holds.
            place: the file.
            hint: what to do about a damaged one; nothing that destroys it.

        Raises:
            NewerRecordError: if a newer rave made it.
            DamagedRecordError: if it is no object, does not say its version or has never had it.
        """
        if not isinstance(document, dict):
            raise self.damaged(place, ("it is not an object",), hint)
        members = dict(document)
        version = members.pop(self.member, self.unversioned)
        if version is None:
            raise self.damaged(place, (f"{self.member} is missing",), hint)
        if type(version) is not int or version < min((*self.upgrades, self.version)):
            raise self.damaged(place, (f"{self.member} is {version!r}",), hint)
        if version > self.version:
            raise NewerRecordError(
                f"{self.title} in {place} was made by a newer rave (record version {version}, this"
                f" rave knows {self.version})",
                hint="update rave, or use the one that made it; the file was left as it is",
                exit_code=self.exit_code,
            )
        for step in range(version, self.version):
            try:
                members = self.upgrades[step](members)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                why = f"it cannot be read as version {step} ({error!r})"
                raise self.damaged(place, (why,), hint) from error
        return members

    def damaged(self, place: Path, said: tuple[str, ...], hint: str) -> DamagedRecordError:
        """Return the error of a record in which `said` is wrong."""
        return DamagedRecordError(
            f"{self.title} in {place} is damaged: {said[0]}",
            hint=hint,
            exit_code=self.exit_code,
            detail=said[1:MOST_FAULTS],
        )


@dataclass(frozen=True, kw_only=True)
class RecordFormat(Versions, Generic[T]):
    """A kind of record that is JSON. `shape` is today's members, without the version: a dataclass
    (shapes.py), or a model of pydantic where members come from elsewhere.
    """

    shape: type[T]

    def read(self, place: Path, *, hint: str) -> T:
        """Return the record in a file; `hint` is what to do about a damaged one.

        Raises:
            NewerRecordError: if a newer rave made it.
            DamagedRecordError: if it is damaged or missing.
            RaveError: `exit_code` if somebody else may have written it; HOST if it cannot be read.
        """
        with paths.refusing(place):
            missing = not place.exists()
        if missing:
            raise self.damaged(place, ("it is missing",), hint)
        return self.parse(paths.read_trusted(place, exit_code=self.exit_code), place, hint=hint)

    def parse(self, data: bytes, place: Path, *, hint: str) -> T:
        """Return the record that `data`, read from `place`, is.

        Raises:
            NewerRecordError: if a newer rave made it.
            DamagedRecordError: if it is damaged.
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.damaged(place, (f"it is not JSON: {error}",), hint) from error
        members = self.upgraded(document, place, hint=hint)
        if is_dataclass(self.shape):
            try:
                found: T = shapes.read(self.shape, members)
            except shapes.MisfitError as error:
                raise self.damaged(place, error.faults, hint) from error
            return found
        return self._validated(members, place, hint)

    def _validated(self, members: Document, place: Path, hint: str) -> T:
        from pydantic import ValidationError

        try:
            valid: T = self.shape.model_validate(members)  # type: ignore[attr-defined]
        except ValidationError as error:
            raise self.damaged(place, faults(error), hint) from error
        return valid

    def render(self, value: T) -> bytes:
        """Return a record as the text of its file."""
        return json.dumps(self.document(value), indent=2).encode() + b"\n"

    def document(self, value: T) -> Document:
        """Return a record as JSON-ready values, with its version."""
        members: Document
        if is_dataclass(value):
            members = shapes.plain(value)
        else:
            members = value.model_dump(mode="json", by_alias=True)  # type: ignore[attr-defined]
        return {self.member: self.version} | members

    def write(self, place: Path, value: T, *, mode: int = 0o644) -> None:
        """Write a record, atomically.

        Raises:
            RaveError: HOST if it cannot be written.
        """
        paths.atomic_write(place, self.render(value), mode=mode)


def faults(error: ValidationError) -> tuple[str, ...]:
    """Return what a validation found wrong, each with the member's place."""
    found = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(map(_member, fault["loc"])) or "it"
        match fault["type"]:
            case "missing":
                found.append(f"{place} is missing")
            case "extra_forbidden" | "unexpected_keyword_argument":
                found.append(f"{place} is unknown")
            case _:
                found.append(f"{place}: {fault['msg']}")
    return tuple(found)


def _member(name: int | str) -> str:
    text = str(name)
    return text if text.isprintable() else repr(text)


def amend(document: Document, place: str, value: object) -> Document:
    """Return a document with a member added, `place` being its path with dots; the usual upgrade.

    Where its parents are not there or no objects, nothing is added: validation then names them.
    """
    name, _, rest = place.partition(".")
    if not rest:
        return {name: value} | document
    inner = document.get(name)
    if not isinstance(inner, dict):
        return document
    return document | {name: amend(inner, rest, value)}
