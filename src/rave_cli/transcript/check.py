"""A check and what came of it: the one value from the question to the signed document."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from rave_cli.transcript.canonical import DEEPEST_DATA, DamagedError, Json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_cli.transcript.formats import Types
    from rave_cli.transcript.redaction import Redactor

Status = Literal["pass", "fail", "warn", "skip", "error"]
Severity = Literal["critical", "warning"]
# guest: answered inside. outside: through the forwarded ports. host: looked at on the host.
Viewpoint = Literal["guest", "outside", "host"]

STATUSES: tuple[Status, ...] = get_args(Status)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
VIEWPOINTS: tuple[Viewpoint, ...] = get_args(Viewpoint)
BAD: tuple[Status, ...] = ("fail", "error")

CHECK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
PHASE_ID = re.compile(r"[a-z][a-z0-9-]{0,63}")

MOST_ATTEMPTS = 10_000


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A check with its verdict. No field has a default: one that is forgotten is a fault.

    Args:
        id: unique in the run; what a policy names.
        phase: id of the phase it belongs to.
        title: what passes, as a statement for people.
        status: the verdict; only `pass` counts as passed, `error` counts as failed.
        severity: how much a failure matters.
        viewpoint: from where it looked: inside the guest, from outside, on the host.
        seconds: how long it took, all attempts together.
        attempts: how often it was tried; 0 if it was not asked.
        detail: what was seen; of a skipped check, why.
        data: figures and lists, as JSON data; never a secret.

    Raises:
        ValueError: if a value is none of those that its field can have.
    """

    id: str
    phase: str
    title: str
    status: Status
    severity: Severity
    viewpoint: Viewpoint
    seconds: float
    attempts: int
    detail: str
    data: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not CHECK_ID.fullmatch(self.id):
            raise ValueError(f"{self.id!r} is not a check id")
        if not PHASE_ID.fullmatch(self.phase):
            raise ValueError(f"{self.phase!r} is not the phase of a check")
        for what, value, known in (
            ("status", self.status, STATUSES),
            ("severity", self.severity, SEVERITIES),
            ("viewpoint", self.viewpoint, VIEWPOINTS),
        ):
            if value not in known:
                raise ValueError(f"{value!r} is not the {what} of a check")
        if not math.isfinite(self.seconds) or self.seconds < 0:
            raise ValueError(f"the check {self.id} cannot take {self.seconds} s")
        if not 0 <= self.attempts <= MOST_ATTEMPTS:
            raise ValueError(f"the check {self.id} cannot be tried {self.attempts} times")

    def cleaned(self, redactor: Redactor) -> CheckResult:
        """Return it as it is recorded: without secrets, and with endless data cut."""
        return replace(
            self,
            title=str(redactor.value(self.title)),
            detail=str(redactor.value(self.detail)),
            data=cast("dict[str, Any]", redactor.value(self.data, DEEPEST_DATA)),
        )

    @classmethod
    def parse(cls, value: Json) -> CheckResult:
        """Read a check of a document.

        Raises:
            DamagedError: if it is none.
        """
        if not isinstance(value, dict) or tuple(value) != MEMBERS:
            raise DamagedError("validation_results holds something that is not a check")
        for name, kind in TYPES.items():
            if not isinstance(value[name], kind) or isinstance(value[name], bool):
                raise DamagedError(f"the check {value['id']!r} has a {name} of the wrong type")
        try:
            return cls(**cast("dict[str, Any]", value))
        except ValueError as error:
            raise DamagedError(str(error)) from error

    def document(self) -> dict[str, Any]:
        """Return it as JSON data, members in the order of the fields."""
        members = {name: getattr(self, name) for name in MEMBERS}
        return members | {"seconds": round(float(self.seconds), 3), "data": dict(self.data)}


MEMBERS = tuple(field.name for field in fields(CheckResult))
NOT_TEXT: dict[str, Types] = {"seconds": (int, float), "attempts": int, "data": dict}
TYPES = {name: NOT_TEXT.get(name, str) for name in MEMBERS}
