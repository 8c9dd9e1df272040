"""How the events of builds and boots read as progress. The texts are here, the drawing in show."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.images.events import Event, OnEvent
    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.show import Progress


def of_build(progress: Progress, warning: Callable[[str], None]) -> OnEvent:
    """Return what hears a build's events: notices are warnings that stay, the rest is progress."""

    def tell(event: Event) -> None:
        if event.notice:
            warning(event.text)
        else:
            progress.update(event.text, event.done, event.total)

    return tell


def of_boot(progress: Progress) -> Callable[[Reached], None]:
    """Return what hears a boot's stages as they are reached."""
    from rave_cli.machines.guest.readiness import NAMES

    def tell(stage: Reached) -> None:
        text = f"{stage.name}: {stage.detail}" if stage.detail else stage.name
        progress.update(text, NAMES.index(stage.name) + 1, len(NAMES))

    return tell
