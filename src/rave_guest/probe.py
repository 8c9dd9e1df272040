"""The verb probe: answers a batch of checks.

Arguments: {"checks": [{"id", "kind", "timeout", "retry_for", "needs": [id…], "arguments": {…}}, …]}
Answer:    {"results": [{"id", "status", "detail", "seconds", "attempts", "data"}, …],
            "facts": {…}, "seconds": s}

Checks run at the same time in threads. One whose `needs` did not pass is skipped with the reason; a
failing one is asked again, with growing pauses, for `retry_for` seconds; one that does not come
back is an error. Nothing in the answer is ever a secret.

With "tells": true each result is also told as soon as it is there, as a line of JSON on standard
error.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import namedtuple
from contextlib import suppress

from rave_guest import registry
from rave_guest.refusal import Refused
from rave_guest.system import System
from rave_guest.verdict import ERROR, FAIL, PASS, WARN, Verdict, errored, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

WORKERS = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0


class Ask(namedtuple("Ask", ("id", "kind", "timeout", "retry_for", "needs", "arguments"))):
    """A check as the host asks it: `kind` is the place of the function that carries it out, and
    `arguments` are what that gets.
    """

    __slots__ = ()
    id: str
    kind: str
    timeout: float
    retry_for: float
    needs: tuple[str, ...]
    arguments: Mapping[str, Any]


class Result(namedtuple("Result", ("id", "verdict", "seconds", "attempts"))):
    """A check with its verdict."""

    __slots__ = ()
    id: str
    verdict: Verdict
    seconds: float
    attempts: int

    def document(self) -> dict[str, Any]:
        """Return it as the answer carries it."""
        head = {"id": self.id, "seconds": round(self.seconds, 3), "attempts": self.attempts}
        return head | self.verdict._asdict()


def parse(arguments: Mapping[str, Any]) -> list[Ask]:
    """Read the arguments of the verb.

    Raises:
        Refused: they are no batch, an id comes twice, or a check needs one that is missing or comes
            after it.
    """
    try:
        asks = [_ask(entry) for entry in arguments["checks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Refused("request", f"not a batch of checks: {type(error).__name__}") from error
    seen: set[str] = set()
    for ask in asks:
        if ask.id in seen:
            raise Refused("request", f"the check {ask.id} comes twice")
        if missing := [name for name in ask.needs if name not in seen]:
            raise Refused("request", f"{ask.id} needs {missing[0]}, which does not come before it")
        seen.add(ask.id)
    return asks


def _ask(entry: Mapping[str, Any]) -> Ask:
    timeout = float(entry["timeout"])
    return Ask(
        str(entry["id"]),
        str(entry["kind"]),
        timeout,
        float(entry["retry_for"]),
        tuple(entry["needs"]),
        {**entry["arguments"], "timeout": timeout},
    )


class Board:
    """What is known so far. Threads take the next check whose needs are settled."""

    def __init__(
        self, asks: list[Ask], tell: Callable[[Result], None] = lambda _result: None
    ) -> None:
        self._tell = tell
        self._todo = list(asks)
        self._running: dict[str, float] = {}
        self._results: dict[str, Result] = {}
        self._changed = threading.Condition()
        self._asks = {ask.id: ask for ask in asks}

    def take(self) -> Ask | None:
        """Return a check to run, waiting for one if need be; None when nothing is left to run."""
        with self._changed:
            while self._todo:
                for ask in self._todo:
                    if all(name in self._results for name in ask.needs):
                        self._todo.remove(ask)
                        self._running[ask.id] = time.monotonic()
                        return ask
                self._changed.wait()
            return None

    def blocked(self, ask: Ask) -> str | None:
        """Return why `ask` cannot be asked: a need that neither passed nor warned."""
        with self._changed:
            for name in ask.needs:
                if (status := self._results[name].verdict.status) not in {PASS, WARN}:
                    return f"{name} is a precondition, and its result is {status}"
        return None

    def settle(self, result: Result) -> None:
        """Record a result; the first one counts."""
        with self._changed:
            if result.id not in self._results:
                self._results[result.id] = result
                self._tell(result)
            self._running.pop(result.id, None)
            self._changed.notify_all()

    def wait(self) -> list[Result]:
        """Return every result, in the order asked; what overruns its time becomes an error."""
        with self._changed:
            while len(self._results) < len(self._asks):
                self._expire()
                self._changed.wait(0.05)
            return [self._results[name] for name in self._asks]

    def _expire(self) -> None:
        now = time.monotonic()
        for name, since in list(self._running.items()):
            ask = self._asks[name]
            # A grace second: a check that keeps its own deadline says more than this one can.
            if now - since > ask.timeout + ask.retry_for + 1:
                late = errored(f"no result within {ask.timeout + ask.retry_for:g} s")
                self.settle(Result(name, late, now - since, 1))


def carry_out(
    ask: Ask, look: Callable[[], Verdict], *, sleep: Callable[[float], None] = time.sleep
) -> Result:
    """Ask until the verdict is neither fail nor error, or `retry_for` seconds are over."""
    started = time.monotonic()
    pause, attempts = FIRST_PAUSE, 0
    while True:
        attempts += 1
        verdict = _guarded(look, ask.timeout)
        spent = time.monotonic() - started
        if verdict.status not in {FAIL, ERROR} or spent + pause > ask.retry_for:
            return Result(ask.id, verdict, spent, attempts)
        sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _guarded(look: Callable[[], Verdict], timeout: float) -> Verdict:
    try:
        return look()
    except TimeoutError:
        return Verdict(FAIL, f"no answer within {timeout:g} s", {})
    except ConnectionRefusedError:
        return Verdict(FAIL, "connection refused", {})
    except Exception as error:  # noqa: BLE001 - a check must not take the others with it
        return errored(f"{type(error).__name__}: {error}")


def look_of(ask: Ask, system: System) -> Callable[[], Verdict]:
    """Return the function that answers `ask`."""
    try:
        function = registry.function(ask.kind)
    except LookupError as error:
        verdict = errored(str(error.args[0]))
        return lambda: verdict
    return lambda: function(ask.arguments, system)


def _work(board: Board, system: System) -> None:
    while ask := board.take():
        reason = board.blocked(ask)
        if reason:
            board.settle(Result(ask.id, skipped(reason), 0.0, 0))
        else:
            board.settle(carry_out(ask, look_of(ask, system)))


def answer(
    asks: list[Ask], system: System, tell: Callable[[Result], None] = lambda _result: None
) -> list[Result]:
    """Answer all checks, up to eight at a time; `tell` is told of each result once."""
    board = Board(asks, tell)
    for _ in range(min(WORKERS, len(asks))):
        threading.Thread(target=_work, args=(board, system), daemon=True).start()
    return board.wait()


def _kept(_result: Result) -> None:
    """Say nothing of a result before the answer."""


def _said(result: Result) -> None:
    """Say a result on standard error; that nobody listens any more changes nothing."""
    with suppress(OSError, ValueError):
        sys.stderr.write(json.dumps({"told": result.document()}) + "\n")
        sys.stderr.flush()


def verb(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a batch of checks.

    Raises:
        Refused: it is none.
    """
    started = time.monotonic()
    # Handing Python's lock from thread to thread is dear under emulation, and nobody hurries.
    sys.setswitchinterval(0.05)
    asks = parse(arguments)
    system = System(unit for ask in asks for unit in ask.arguments.get("units", ()))
    tell = _said if arguments.get("tells") is True else _kept
    return {
        "results": [result.document() for result in answer(asks, system, tell)],
        "facts": system.facts(),
        "seconds": round(time.monotonic() - started, 3),
    }
