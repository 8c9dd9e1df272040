"""How a check is declared: beside the function that carries it out, in the guest and on the host.

    @check("redis.state", phase="health", title="Redis: memory within its limit",
           needs=("redis.units",), arguments=lambda about: {"port": …})
    def state(arguments, system):

The declaration is the host's to read: it asks by its own list, and a guest does not choose the
questions. Names of phases and steps are the smoke suite's.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any, Literal, TypeVar

    Viewpoint = Literal["guest", "outside", "host"]
    Severity = Literal["critical", "warning"]
    F = TypeVar("F", bound=Callable[..., Any])

SERVICES = "rave_guest.services."


class Subject(
    namedtuple("Subject", ("plan", "mode", "instance", "network", "memory_mib", "decoys"))
):
    """What a run is about, as far as arguments of checks depend on it.

    Attributes:
        plan: the plan of the machine, as /usr/lib/rave/plan.json has it.
        mode: `safe` or `full`.
        instance: the machine's instance id.
        network: `isolated` or `nat`.
        memory_mib: its memory.
        decoys: (address, port) of listeners that the host holds open for the guest to try.
    """

    __slots__ = ()
    plan: Mapping[str, Any]
    mode: str
    instance: str
    network: str
    memory_mib: int
    decoys: tuple[tuple[str, int], ...]


class Declaration(
    namedtuple(
        "Declaration",
        (
            "id", "phase", "title", "viewpoint", "severity", "service", "needs", "timeout",
            "retry_for", "step", "arguments", "figures", "function",
        ),
    )
):  # fmt: skip
    """A declared check.

    Attributes:
        id: unique among all checks, such as `postgresql.roles`.
        phase: id of its phase.
        title: what passes, as a statement; names of its arguments in braces are filled in.
        viewpoint: from where it looks: `guest`, `outside`, `host`.
        severity: `critical`, or `warning`: then a failure is a warning.
        service: asked where the plan has this service alone; None: always.
        needs: ids of checks that must have passed (or warned); otherwise this one is skipped.
        timeout: seconds for one attempt.
        retry_for: seconds during which a failing attempt is repeated, with growing pauses.
        step: when in the run it is carried out; None: as its phase and viewpoint have it.
        arguments: from the subject of the run to what the function gets; JSON data, no secret.
        figures: name in the verdict's data -> name among the transcript's performance metrics.
        function: what carries it out.
    """

    __slots__ = ()
    id: str
    phase: str
    title: str
    viewpoint: Viewpoint
    severity: Severity
    service: str | None
    needs: tuple[str, ...]
    timeout: float
    retry_for: float
    step: str | None
    arguments: Callable[[Subject], dict[str, Any]]
    figures: Mapping[str, str]
    function: Callable[..., Any]

    @property
    def kind(self) -> str:
        """The place of the function, as a request to the guest names it."""
        return place(self.function)


def nothing(_about: Subject) -> dict[str, Any]:
    """Return no arguments."""
    return {}


def check(
    id_: str, *, phase: str, title: str, viewpoint: Viewpoint = "guest",
    severity: Severity = "critical",
    service: str | None = None, needs: tuple[str, ...] = (), timeout: float = 20.0,
    retry_for: float = 0.0, step: str | None = None,
    arguments: Callable[[Subject], dict[str, Any]] = nothing,
    figures: Mapping[str, str] | None = None,
) -> Callable[[F], F]:  # fmt: skip
    """Declare a check that the decorated function carries out; see `Declaration`.

    A function of a service's own module is asked where the plan has that service. One function may
    carry out several checks.
    """

    def declare(function: F) -> F:
        found = Declaration(
            id_, phase, title, viewpoint, severity, service or _service_of(function.__module__),
            needs, timeout, retry_for, step, arguments, figures or {}, function,
        )  # fmt: skip
        # Decorators apply from the last to the first.
        function.declarations = (found, *getattr(function, "declarations", ()))  # type: ignore[attr-defined]
        return function

    return declare


def askable(function: F) -> F:
    """Let the host ask for a function under its place, with no check of its own."""
    function.declarations = getattr(function, "declarations", ())  # type: ignore[attr-defined]
    return function


def place(function: Callable[..., Any]) -> str:
    """Return where a function of this package is found, such as `services.redis.state`."""
    return f"{function.__module__.removeprefix('rave_guest.')}.{function.__name__}"


def declared(module: ModuleType) -> list[Declaration]:
    """Return the checks that a module declares, in its order."""
    return [
        found
        for value in vars(module).values()
        if getattr(value, "__module__", None) == module.__name__
        for found in getattr(value, "declarations", ())
    ]


def _service_of(module: str) -> str | None:
    if not module.startswith(SERVICES):
        return None
    return module.removeprefix(SERVICES).replace("_", "-")
