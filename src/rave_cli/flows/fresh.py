"""A machine for one run: made, started, and gone afterwards, however the run ends."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rave_cli.machines import lifecycle, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.spec import Machine, Network
    from rave_cli.profiles.catalog import Mode, Plan


@contextmanager
def machine(
    plan: Plan,
    image: Image,
    *,
    mode: Mode,
    network: Network,
    on_stage: Callable[[Reached], None],
) -> Iterator[Machine]:
    """Make and start a machine named after the moment; it is deleted on leaving, interrupts
    included.

    Raises:
        RaveError: NOT_READY naming the stage if it does not become ready; HOST if the host lacks
            something.
    """
    name = f"smoke-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with terminations():
        made = store.create(store.new_spec(plan, image, name=name, mode=mode, network=network))
        try:
            lifecycle.start(made, on_stage=on_stage)
            yield made
        finally:
            lifecycle.delete(name, force=True)


@contextmanager
def terminations() -> Iterator[None]:
    """Let SIGTERM end the process the way Ctrl-C does, so that what was begun is cleaned up.

    CI systems cancel jobs with it. Only the main thread may set handlers; elsewhere nothing
    changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
