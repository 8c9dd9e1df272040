"""Signals that end us: they unwind, and nothing breaks off what cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from rave_cli import process, signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

each_signal = pytest.mark.parametrize("number", signals.ENDING)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leave the test runner's own handlers as they were."""
    numbers = (*signals.ENDING, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupted(work: Callable[[], object]) -> signals.Interrupted:
    """Do some work with the handlers in place; return the signal that ended it."""
    with pytest.raises(signals.Interrupted) as caught, signals.handled():
        work()
    return caught.value


@each_signal
def test_each_of_them_unwinds_like_a_fault(number: signal.Signals) -> None:
    fault = interrupted(lambda: signal.raise_signal(number))
    assert fault.number == number


def test_what_interrupted_us_is_found_behind_the_faults_of_the_clean_up() -> None:
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            try:
                int("x")
            except ValueError as fault:
                raise LookupError from fault

    with pytest.raises(LookupError) as caught, signals.handled():
        work()
    found = signals.interruption(caught.value)
    assert found is not None
    assert found.number == signal.SIGTERM
    assert signals.interruption(ValueError()) is None


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in signals.ENDING]
    with signals.handled():
        assert [signal.getsignal(number) for number in signals.ENDING] != before
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def test_what_nohup_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.handled():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@each_signal
def test_a_second_signal_does_not_break_off_the_clean_up(number: signal.Signals) -> None:
    done = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            done.append("first")
            try:
                int("x")
            except ValueError:
                # What is handled here came about while the signal was.
                signal.raise_signal(number)
            done.append("second")

    interrupted(work)
    assert done == ["first", "second"]


def test_once_it_has_been_dealt_with_the_next_one_counts_again() -> None:
    def work() -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGHUP)

    assert interrupted(work).number == signal.SIGHUP


def test_what_is_held_back_comes_afterwards() -> None:
    done = []

    def work() -> None:
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")
        done.append("never")

    assert interrupted(work).number == signal.SIGTERM
    assert done == ["all of it"]


def test_a_fault_and_a_signal_at_once_end_as_the_signal() -> None:
    def work() -> None:
        with signals.held():
            signal.raise_signal(signal.SIGHUP)
            raise ValueError

    assert isinstance(interrupted(work).__context__, ValueError)


def test_a_release_goes_no_further_than_its_own_hold() -> None:
    done = []

    def work() -> None:
        with signals.held() as outer:
            with signals.held() as inner, inner.released():
                signal.raise_signal(signal.SIGINT)
                done.append("still held")
            with outer.released():
                done.append("never")

    interrupted(work)
    assert done == ["still held"]


def test_other_threads_change_nothing() -> None:
    seen: list[bool] = []

    def work() -> None:
        with signals.handled(), signals.held() as hold, hold.released():
            seen.append(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


@each_signal
def test_a_child_ends_with_us_whenever_the_signal_comes(number: signal.Signals) -> None:
    """A timer fires all along the start of a child; whatever was started is gone afterwards."""
    for microseconds in range(0, 6000, 500):
        mark = f"61.{os.getpid()}{number}{microseconds:04}"
        with suppress(KeyboardInterrupt), signals.handled():
            signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
            signal.setitimer(signal.ITIMER_REAL, max(microseconds, 1) / 1e6)
            with process.spawn(["sleep", mark]) as child:
                child.wait()
        left = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, check=False)
        assert left.stdout == b"", microseconds


def test_a_program_that_owns_the_terminal_keeps_its_ctrl_c() -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        from rave_cli import process, signals
        with signals.handled():
            status = process.foreground([
                sys.executable, "-c",
                "import os, signal\\n"
                "signal.signal(signal.SIGINT, lambda *_: None)\\n"
                "os.kill(os.getppid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)\\n"
                "raise SystemExit(5)",
            ])
        print("its status:", status)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("its status: 5\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_program_that_owns_the_terminal_ends_with_us(number: signal.Signals) -> None:
    mark = f"9{os.getpid()}.{number}"

    def work() -> None:
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        process.foreground(["sleep", mark])

    assert interrupted(work).number == number
    left = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, check=False)
    assert left.stdout == b""
