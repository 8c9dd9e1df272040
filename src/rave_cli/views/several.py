"""One thing done to several machines: one that fails does not keep it from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.errors import RaveError
from rave_cli.show import fault_document

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_cli.show import Line, Show


@dataclass(frozen=True)
class Outcome:
    """What was done to one machine: a document for programs, lines for people."""

    document: dict[str, Any]
    lines: Sequence[Line]


def for_each(
    show: Show, names: Sequence[str], do: Callable[[str], Outcome], *, several: bool
) -> int:
    """Do something to each machine, show what came of it, and return the exit code: the worst.

    Args:
        show: how to talk.
        names: the machines.
        do: does it to one.
        several: whether the result is a list; else it is that of the one machine, and so is the
            fault.

    Raises:
        RaveError: as `do`, if there is one machine.
    """
    if not several:
        answer = do(names[0])
        show.result(answer.document, *answer.lines)
        return 0
    if not names:
        show.note("there are no machines")
    documents, worst = [], 0
    for name in names:
        try:
            answer = do(name)
        except RaveError as error:
            show.fault(error)
            documents.append({"name": name} | fault_document(error))
            worst = max(worst, int(error.exit_code))
            continue
        documents.append(answer.document)
        if not show.as_json:
            show.result(None, *answer.lines)
    if show.as_json:
        show.result(documents)
    return worst
