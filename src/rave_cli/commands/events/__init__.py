"""`rave events`: what forges told a machine by webhooks, a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "list": Lazy("rave_cli.commands.events.list:list_", "The newest of a machine."),
        "show": Lazy("rave_cli.commands.events.show:show", "One, with what the forge sent."),
        "dead": Lazy("rave_cli.commands.events.dead:dead", "Those that the stream refuses."),
        "replay": Lazy("rave_cli.commands.events.replay:replay", "Hand events over again."),
    },
)
def events() -> None:
    """What forges told a running machine by webhooks, and what became of it.

    That events are handed over again is written down in the machine, in /var/log/rave/events.log.
    """
