"""Verbs that a service carries out: whichever of the plan's services fulfils the verb's contract.

Their arguments are {"action", "by", "arguments"}: what to do, who says so, and with what. Every
change that is asked for is written down (audit.py), whether it is made or refused.
"""

from __future__ import annotations

from rave_guest import audit, plan, registry
from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Answer = dict[str, Any]
    Provider = Callable[[str, Mapping[str, Any]], Answer]

MOST_BY = 200  # characters of who asks


class Contract:
    """A verb and the contract behind it.

    Attributes:
        provides: the contract's name in the catalog.
        verb_name: the verb's; the service's module has a function of this name that carries it out.
        does: what such a service does, for a guest that has none.
        check: raises Refused for an action that there is not, or arguments that it does not take.
        looks: the actions that change nothing.
        result: what is written down of an answer.
        log: where changes are written down.
    """

    def __init__(
        self,
        provides: str,
        verb_name: str,
        *,
        does: str,
        check: Callable[[object, object], None],
        looks: set[str],
        result: Callable[[Answer], str],
        log: str,
    ) -> None:
        self.provides, self.verb_name, self.does = provides, verb_name, does
        self.check, self.looks, self.result, self.log = check, looks, result, log

    def verb(self, arguments: Mapping[str, Any]) -> Answer:
        """Carry out an action.

        Raises:
            Refused: it is no such request, or as the provider does.
        """
        if set(arguments) != {"action", "by", "arguments"}:
            about = f"a request on {self.verb_name}"
            raise Refused("request", f"{about} has an action, by whom, and its arguments")
        action, by, wanted = arguments["action"], arguments["by"], arguments["arguments"]
        self.check(action, wanted)
        if not isinstance(by, str) or not 0 < len(by) <= MOST_BY:
            raise Refused("request", "it is not said who asks")
        return self.carry_out(action, wanted, by, self.provider(plan.own()))

    def carry_out(
        self,
        action: str,
        wanted: Mapping[str, Any],
        by: str,
        provide: Provider,
        log: str | None = None,
    ) -> Answer:
        """Let the provider do what was asked for, and write down what became of it.

        Raises:
            Refused: as the provider does; AUDIT if it cannot be written down, before it is done.
        """
        if action in self.looks:
            return provide(action, wanted)
        # Whether a password is wanted is nobody's business later.
        told = {key: value for key, value in wanted.items() if key != "password"}
        with audit.entry(log or self.log, action=action, by=by, **told) as entry:
            answer = provide(action, wanted)
            entry.result = self.result(answer)
            return answer

    def provider(self, own: Mapping[str, Any]) -> Provider:
        """Return what carries out the actions in a guest of this plan.

        Raises:
            Refused: it has none.
        """
        for name, record in own["services"].items():
            if self.provides in record["provides"]:
                provide: Provider = getattr(registry.service(name), self.verb_name)
                return provide
        raise Refused("request", f"this guest carries no service that {self.does}")


def takes(actions: Mapping[str, set[str]], action: object, about: str) -> set[str]:
    """Return which arguments an action takes.

    Raises:
        Refused: there is none of that name.
    """
    if not isinstance(action, str) or action not in actions:
        raise Refused("request", f"there is no action {action!r} on {about}")
    return actions[action]


def taken(wanted: object, known: set[str], action: object, *, each: bool = True) -> Answer:
    """Return the arguments of an action, a table of those it takes; with `each`, all of them.

    Raises:
        Refused: they are something else.
    """
    names = set(wanted) if isinstance(wanted, dict) else {None}
    if not isinstance(wanted, dict) or not (names == known if each else names <= known):
        raise Refused("request", f"{action} takes {', '.join(sorted(known)) or 'nothing'}")
    return wanted
