"""The one door into a guest: the only code that calls the guest's own programs.

One program, one request, one answer, each a JSON document with its version; what a request may ask
for is the guest's table of verbs (rave_guest/door.py). Guests of images that an older rave made
speak as they did then (door_v1.py). A guest is not trusted: an answer is taken apart here, within
its size, and what is in it is judged by whoever asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import door_v1
from rave_cli.machines.guest.call import Call, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rave_cli.machines.spec import Machine
    from rave_cli.process import Completed

VERSION = 2
ARGV = ("/usr/lib/rave/rave-guest", "door")
# Bytes. The answer to a whole batch of checks has about 50 KiB.
MOST_ANSWER = 8 << 20


class Runs(Protocol):
    """The part of an SSH session that a door needs."""

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float, sudo: bool = False,
        on_error: Callable[[bytes], None] = lambda _: None,
    ) -> Completed:  # fmt: skip
        """Run a command in the guest."""
        ...


class VerbRefusedError(RaveError):
    """The guest did not do what it was asked; `stage` says at which step, `why` for what reason."""

    def __init__(self, machine: str, verb: str, refusal: Refusal) -> None:
        super().__init__(
            f"machine {machine} refuses {verb} ({refusal.stage}): {refusal.why}",
            hint=f"rave vm logs {machine}",
            exit_code=ExitCode.NOT_READY,
        )
        self.stage, self.why = refusal.stage, refusal.why


class UnusableAnswerError(RaveError):
    """What came back is no answer to the request."""


@dataclass(frozen=True)
class Door:
    """A way to ask one guest.

    Args:
        session: an open connection to it.
        machine: its name, for messages.
        version: which requests it understands; its image says so.
    """

    session: Runs
    machine: str
    version: int

    @classmethod
    def of(cls, machine: Machine, session: Runs) -> Self:
        """Return the door of a machine that an open connection leads to."""
        return cls(session, machine.name, machine.spec.image.door)

    def call(
        self, verb: str, arguments: Mapping[str, Any], *, timeout: float,
        on_error: Callable[[bytes], None] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Let the guest carry out a verb, as root, and return its answer.

        Args:
            verb: one of the guest's table.
            arguments: JSON data; secrets may be in it, for it travels on standard input alone.
            timeout: seconds for all of it.
            on_error: told each piece of what the verb says meanwhile, on standard error.

        Raises:
            VerbRefusedError: the guest says why it did not do it.
            UnusableAnswerError: NOT_READY if what comes back is no answer.
            RaveError: NOT_READY if the connection breaks or time runs out; HOST if the guest was
                made by a newer rave.
        """
        call = self._words(verb, arguments)
        more = {} if on_error is None else {"on_error": on_error}
        done = self.session.run(call.argv, stdin=call.stdin, timeout=timeout, sudo=True, **more)
        try:
            found = call.read(decode(done.stdout))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._unusable(verb, done, error) from error
        if isinstance(found, Refusal):
            raise VerbRefusedError(self.machine, verb, found)
        if not done.ok:
            raise self._unusable(verb, done, None)
        return found

    def _words(self, verb: str, arguments: Mapping[str, Any]) -> Call:
        if self.version == VERSION:
            request = {"v": VERSION, "verb": verb, "arguments": arguments}
            return Call(ARGV, json.dumps(request).encode(), read)
        if self.version == door_v1.VERSION:
            if verb not in door_v1.VERBS:
                raise VerbRefusedError(self.machine, verb, Refusal("request", door_v1.OLDER))
            return door_v1.VERBS[verb](arguments)
        raise RaveError(
            f"machine {self.machine} was made by a newer rave: its guest understands requests of"
            f" version {self.version}, this rave speaks up to {VERSION}",
            hint="update rave, then try again",
            exit_code=ExitCode.HOST,
        )

    def _unusable(self, verb: str, done: Completed, error: Exception | None) -> UnusableAnswerError:
        why = f"{type(error).__name__}: {error}" if done.ok else f"exit status {done.returncode}"
        return UnusableAnswerError(
            f"machine {self.machine} gave no usable answer to {verb}: {why}",
            hint=f"rave vm logs {self.machine}; rave vm status {self.machine}",
            exit_code=ExitCode.NOT_READY,
            detail=done.tail(6),
        )


def decode(raw: bytes) -> Any:  # noqa: ANN401 - whatever a guest says
    """Return the JSON document that a guest printed.

    Raises:
        ValueError: it is none, or too large.
        RecursionError: it is nested without end.
    """
    if len(raw) > MOST_ANSWER:
        raise ValueError(f"it has more than {MOST_ANSWER >> 20} MiB")
    return json.loads(raw)


def read(document: Any) -> dict[str, Any] | Refusal:  # noqa: ANN401 - whatever a guest says
    """Take an answer of this version apart.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    if document["v"] != VERSION:
        raise ValueError(f"it is of version {document['v']!r}")
    if document["ok"] is False:
        return Refusal(str(document["stage"]), str(document["error"]))
    answer = document["answer"]
    if document["ok"] is not True or not isinstance(answer, dict):
        raise TypeError("it is neither an answer nor a refusal")
    return answer
