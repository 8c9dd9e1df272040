"""Signals that end us: one place, every command.

SIGINT, SIGTERM and SIGHUP (Ctrl-C, a cancelled CI job, a closed terminal) raise `Interrupted` in
the main thread. It unwinds the program like any fault, so each `finally` on its way cleans up; what
arrives while it does so is dropped, because clean-up that is broken off leaves behind what nobody
looks for. Clean-up that runs for another reason is protected by `held`.

An exception that may come between any two steps leaves a lock taken that a library acquires before
its `try`, as paramiko does, and whoever wants it next waits for ever. What calls such a library
does so within `held` where that is short, else `apart`.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from queue import SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType
    from typing import Self

_T = TypeVar("_T")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal that ends us arrived. `data` is what `--json` shows of what it broke off."""

    data: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(self.number.name)


class _State:
    """What is remembered between signals: they come to the process, and so does this."""

    held = False
    pending: int | None = None


_state = _State()


def _elsewhere() -> bool:
    """Return whether this is a thread that never sees a signal."""
    return threading.current_thread() is not threading.main_thread()


@contextmanager
def handled() -> Iterator[None]:
    """Raise `Interrupted` for the signals of ENDING until this is left.

    One that was ignored when we were started stays ignored: `nohup` and background jobs of a shell
    ask for that. So does one that `ignore` has dealt with.
    """
    if _elsewhere():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    taken = [number for number in ENDING if before[number] is not signal.SIG_IGN]
    try:
        for number in taken:
            signal.signal(number, _arrived)
        yield
    finally:
        for number in taken:
            if signal.getsignal(number) is _arrived:
                signal.signal(number, before[number])


class Hold:
    """See `held`."""

    def __init__(self) -> None:
        self._before = _state.held

    def __enter__(self) -> Self:
        if not _elsewhere():
            _state.held = True
        return self

    def __exit__(self, *_fault: object) -> None:
        self._leave()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let signals through again, as they were before, while what was begun is in use."""
        self._leave()
        try:
            yield
        finally:
            self.__enter__()

    def _leave(self) -> None:
        if not _elsewhere():
            _state.held = self._before
            _deliver()


def held() -> Hold:
    """Put off what arrives until this is left: for steps that must not be broken off half-way.

    Only for what is short, since nothing but SIGKILL ends the process meanwhile. In other threads,
    which never see signals, nothing changes.
    """
    return Hold()


def holding() -> bool:
    """Return whether a signal that came now would be put off."""
    return _state.held or _elsewhere()


def apart(work: Callable[[], _T]) -> _T:
    """Do `work` in a thread of its own, where no signal breaks it off, and return what it returns.

    This thread waits meanwhile and can be interrupted; the work then goes on, and nobody hears of
    its end.

    Raises:
        BaseException: whatever it raises.
    """
    if _elsewhere():
        return work()
    ended: SimpleQueue[tuple[_T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            ended.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it can be handled
            ended.put((None, error))

    with held():
        threading.Thread(target=run, daemon=True).start()
    result, fault = ended.get()
    if fault is not None:
        raise fault
    return result  # type: ignore[return-value]


@contextmanager
def ignored(*numbers: int) -> Iterator[None]:
    """Leave signals to the program that owns the terminal meanwhile."""
    if _elsewhere():
        yield
        return
    # A handler of ours rather than SIG_IGN, which a program that is started would inherit.
    before = {number: signal.signal(number, _leave_alone) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def handed(tell: Callable[[int], object]) -> Iterator[None]:
    """Hand the signals that end us to somebody who ends in order by himself, as the loop of a
    library does that would not bear an exception between any two of its steps.

    `tell` is called with the number, in the main thread, and must raise nothing.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    taken = [number for number in ENDING if before[number] is not signal.SIG_IGN]
    try:
        for number in taken:
            signal.signal(number, lambda found, _frame: tell(found))
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _leave_alone(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""


def _arrived(number: int, _frame: FrameType | None) -> None:
    if unwinding():
        return
    if _state.held:
        _state.pending = _state.pending or number
        return
    raise Interrupted(number)


def _deliver() -> None:
    """Raise what was put off."""
    number = _state.pending
    if number is None or _state.held:
        return
    _state.pending = None
    if not unwinding():
        raise Interrupted(number)


def unwinding() -> bool:
    """Return whether an `Interrupted` is being handled by whoever called us, directly or not."""
    return interruption(sys.exception()) is not None


def interruption(fault: BaseException | None) -> Interrupted | None:
    """Return what interrupted us, if that is behind a fault."""
    return next((cause for cause in _behind(fault) if isinstance(cause, Interrupted)), None)


def ignore() -> None:
    """Ignore from now on whatever would end us: we end already."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _behind(fault: BaseException | None) -> list[BaseException]:
    """Return a fault and everything that led to it."""
    found: list[BaseException] = []
    waiting = [fault]
    while waiting:
        current = waiting.pop()
        if current is not None and current not in found:
            found.append(current)
            waiting += [current.__cause__, current.__context__]
    return found
