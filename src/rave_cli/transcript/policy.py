"""What a verifier demands of a run: the checks that must have passed, and what configured it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.paths import read_trusted
from rave_cli.transcript.canonical import DamagedError, parse
from rave_cli.transcript.check import CHECK_ID
from rave_cli.transcript.formats import FORMATS
from rave_cli.transcript.record import FINGERPRINT, SHA256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rave_cli.transcript.document import Document
    from rave_cli.transcript.record import PackageOrigin

VERSION = 1
LARGEST_FILE = 1 << 20
AGE = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)")
AGE_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
MEMBERS = {
    "version",
    "required",
    "allow_warn",
    "profile",
    "base",
    "max_age",
    "format",
    "configuration",
    "lock",
    "archive_keys",
    "cold",
}

# The check that passes only where the guest was seen to boot.
BOOTED = "boot.stages"


@dataclass(frozen=True)
class VerificationPolicy:
    """Demands on a run.

    Args:
        required: ids of checks that must have passed.
        allow_warn: whether a warning counts as passed. A skip or an error never does.
        profile: the profile it must have been, if any is demanded.
        base: the base it must have been.
        max_age: how old it may be.
        format: the lowest version of the transcript's format that will do.
        configuration: sha256 in hex that each named configuration must have had.
        lock: sha256 in hex of the lock that the image's packages must have come from.
        archive_keys: fingerprints of the archive keys that may have counted beside the
            distribution's; None if any will do.
        cold: whether the machine must have been seen to boot, and not been started from a template.
    """

    required: tuple[str, ...]
    allow_warn: bool = False
    profile: str | None = None
    base: str | None = None
    max_age: timedelta | None = None
    format: int = 1
    configuration: Mapping[str, str] = field(default_factory=dict)
    lock: str | None = None
    archive_keys: frozenset[str] | None = None
    cold: bool = False

    def shortfalls(self, document: Document) -> list[str]:
        """Return, in one line each, where a run falls short of the policy's checks."""
        accepted = {"pass", "warn"} if self.allow_warn else {"pass"}
        lines = []
        if document.format.version < self.format:
            lines.append(
                f"format: it is {document.format.version}, and may not be below {self.format}"
            )
        for id_ in self.required:
            check = document.checks.get(id_)
            if check is None:
                lines.append(f"{id_}: was not run")
            elif check.status not in accepted:
                lines.append(f"{id_}: {check.status}")
        booted = document.checks.get(BOOTED)
        if self.cold and (booted is None or booted.status not in accepted):
            why = "was not run" if booted is None else booted.status
            lines.append(f"cold: the machine was not seen to boot ({BOOTED}: {why})")
        for name, digest in self.configuration.items():
            if document.configuration.get(name) != digest:
                lines.append(f"{name}: the run was configured by another version")
        return [*lines, *self._packages(document.packages)]

    def _packages(self, origin: PackageOrigin | None) -> Iterator[str]:
        """Yield where the image's packages are not those that were demanded."""
        if self.lock is not None and (origin is None or origin.lock != self.lock):
            yield "lock: the image's packages are those of another one, or of none"
        if self.archive_keys is None:
            return
        if origin is None or origin.lock is None:
            yield "archive_keys: the transcript does not say whom the image's build trusted"
            return
        for key in origin.trusted:
            if key not in self.archive_keys:
                yield f"archive_keys: the image's build trusted {key}, too"


def parse_age(text: str) -> timedelta:
    """Return the duration that `90m`, `24h` or `7d` means.

    Raises:
        RaveError: USAGE for anything else.
    """
    found = AGE.fullmatch(text)
    if found is None:
        raise RaveError(
            f"{text!r} is not an age",
            hint="write a number and its unit: 90m, 24h or 7d",
            exit_code=ExitCode.USAGE,
        )
    return timedelta(**{AGE_UNITS[found[2]]: int(found[1])})


def load_policy(path: Path) -> VerificationPolicy:
    """Read a policy file: YAML, or JSON if its name ends so.

    Raises:
        RaveError: USAGE if it is damaged, has unknown or repeated members, demands no check, or
            somebody else may have written it; HOST if it cannot be read.
    """
    raw = read_trusted(path, exit_code=ExitCode.USAGE)
    try:
        return _policy(_members(raw, json=path.suffix == ".json"))
    except DamagedError as error:
        raise RaveError(
            f"the policy {path} cannot be used: {error}",
            hint="docs/how-to/verify-a-transcript.md shows a policy",
            exit_code=ExitCode.USAGE,
        ) from error


def _policy(found: dict[str, Any]) -> VerificationPolicy:
    unknown = sorted(set(found) - MEMBERS)
    if unknown:
        raise DamagedError(f"unknown member {unknown[0]!r}")
    if found.get("version") != VERSION or isinstance(found["version"], bool):
        raise DamagedError(f"its version is not {VERSION}")
    allow_warn = found.get("allow_warn", False)
    if not isinstance(allow_warn, bool):
        raise DamagedError("allow_warn is neither true nor false")
    cold = found.get("cold", False)
    if not isinstance(cold, bool):
        raise DamagedError("cold is neither true nor false")
    max_age = _optional_text(found, "max_age")
    return VerificationPolicy(
        required=_required(found.get("required")),
        allow_warn=allow_warn,
        profile=_optional_text(found, "profile"),
        base=_optional_text(found, "base"),
        max_age=None if max_age is None else parse_age(max_age),
        format=_format(found.get("format", 1)),
        configuration=_digests(found.get("configuration", {})),
        lock=_digest(found.get("lock")),
        archive_keys=_keys(found.get("archive_keys")),
        cold=cold,
    )


def _required(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise DamagedError("required must list the checks that must have passed")
    for id_ in value:
        if not isinstance(id_, str) or not CHECK_ID.fullmatch(id_):
            raise DamagedError(f"{id_!r} in required is not a check id")
    return tuple(value)


def _format(value: object) -> int:
    known = [known.version for known in FORMATS]
    if not isinstance(value, int) or isinstance(value, bool) or value not in known:
        raise DamagedError(f"format is none of {', '.join(map(str, known))}")
    return value


def _digests(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise DamagedError("configuration must give a sha256 for each name")
    for name, digest in value.items():
        if not isinstance(name, str) or not SHA256.fullmatch(str(digest)):
            raise DamagedError(f"the digest of {name!r} is not a sha256 in hex")
    return value


def _digest(value: object) -> str | None:
    if value is not None and not SHA256.fullmatch(str(value)):
        raise DamagedError("lock is not a sha256 in hex")
    return None if value is None else str(value)


def _keys(value: object) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise DamagedError("archive_keys must list fingerprints; an empty list allows none")
    for key in value:
        if not FINGERPRINT.fullmatch(str(key)):
            raise DamagedError(f"{key!r} in archive_keys is not 40 digits of a fingerprint")
    return frozenset(map(str, value))


def _optional_text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is not None and not isinstance(value, str):
        raise DamagedError(f"{name} is not a text")
    return value


def _members(raw: bytes, *, json: bool) -> dict[str, Any]:
    if len(raw) > LARGEST_FILE:
        raise DamagedError("it is too large")
    value = parse(raw) if json else _yaml(raw)
    if not isinstance(value, dict):
        raise DamagedError("it is not a table of members")
    return value


def _yaml(raw: bytes) -> object:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses repeated keys, of which YAML would keep the last without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            found = super().construct_mapping(node, deep)
            if len(found) != len(node.value):
                raise DamagedError(
                    f"a key appears twice in the table at line {node.start_mark.line + 1}"
                )
            return found

    try:
        return yaml.load(raw, Loader=Loader)  # noqa: S506 - a SafeLoader
    except DamagedError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DamagedError(f"it is not YAML: {error}") from error
