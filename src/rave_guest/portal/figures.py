"""What the portal draws: five curves of the last hour, asked of Prometheus when somebody looks.

Nothing is asked for while nobody looks. Whoever looks gets what is known, and lets it be asked for
anew behind their back once it is older than FRESH; only who finds none, or old ones, waits.
"""

from __future__ import annotations

import json
import threading
import time

from rave_guest.portal.html import escape
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

HOUR, STEP = 3600, 60  # seconds: what is drawn, and from point to point
FRESH, OLD = 15.0, 120.0  # seconds
ANSWERS = 2.0  # seconds for each question to Prometheus
SCRIPTS = """\
<script src="/portal/chart.js" defer></script>
<script src="/portal/figures.js" defer></script>
"""


class Figure:
    """One curve: what it is called and asked by, and how a value of it is written and drawn."""

    __slots__ = ("expression", "name", "note", "scale", "unit", "written")

    def __init__(
        self, name: str, note: str, expression: str, written: Callable[[float], str],
        *, scale: int = 1, unit: str = "",
    ) -> None:  # fmt: skip
        """Put one together.

        Args:
            name: what people call it.
            note: of what it is.
            expression: the question to Prometheus.
            written: a value as people read it.
            scale: by which a value is multiplied to be drawn.
            unit: in which it is drawn then.
        """
        self.name, self.note, self.expression, self.written = name, note, expression, written
        self.scale, self.unit = scale, unit


class Curve:
    """The values of a figure, from the oldest to the latest; None where there is none."""

    __slots__ = ("figure", "values")

    def __init__(self, figure: Figure, values: Sequence[float | None]) -> None:
        """Put one together."""
        self.figure, self.values = figure, values

    @property
    def latest(self) -> str:
        """The latest value, as people read it."""
        known = [value for value in self.values[-2:] if value is not None]
        return self.figure.written(known[-1]) if known else "none"


def percent(value: float) -> str:
    """Write a share of one."""
    return f"{100 * value:.0f} %"


def rate(value: float) -> str:
    """Write how often something happens."""
    return (
        f"{value:.2g} each second" if value >= 0.01 or not value else "less than 0.01 each second"
    )


def duration(seconds: float) -> str:
    """Write how long something takes."""
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.2g} ms"


# Those that count their requests themselves: nginx in front of them tells no more than how many
# there are.
ANSWERED = (
    "alertmanager_http_request_duration_seconds", "prometheus_http_request_duration_seconds",
    "synapse_http_server_response_time_seconds",
)  # fmt: skip
_SUM = f'{{__name__=~"({"|".join(ANSWERED)})_sum"}}[5m]'
_COUNT = f'{{__name__=~"({"|".join(ANSWERED)})_count"}}[5m]'
_FAILED = (
    '{__name__=~"(prometheus|alertmanager)_http_requests_total|synapse_http_server_responses_total"'
    ',code=~"5.."}[5m]'
)

FIGURES = (
    Figure(
        "CPU", "of all processors", '1 - avg(rate(node_cpu_seconds_total{mode="idle"}[5m]))',
        percent, scale=100, unit="%",
    ),
    Figure(
        "Memory", "in use", "1 - rave_memory_available_bytes / rave_memory_bytes", percent,
        scale=100, unit="%",
    ),
    Figure("Requests", "at the front", "sum(rate(nginx_http_requests_total[5m]))", rate, unit="/s"),
    Figure(
        "Errors", "answers of applications with 5xx", f"sum(rate({_FAILED})) or vector(0)", rate,
        unit="/s",
    ),
    Figure(
        "Latency", "of an answer of applications, on average",
        f"sum(rate({_SUM})) / sum(rate({_COUNT}))", duration,
        scale=1000, unit="ms",
    ),
)  # fmt: skip


class Curves:
    """The curves that are known, renewed as they are looked at."""

    def __init__(self, prometheus: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`prometheus`: its address within the machine."""
        self._prometheus, self._clock = prometheus, clock
        self._curves: list[Curve] | None = None
        self._since = float("-inf")
        self._asking = threading.Lock()

    def current(self) -> list[Curve] | None:
        """Return the curves; None if Prometheus does not answer."""
        known, age = self._curves, self._clock() - self._since
        if age >= (OLD if known else FRESH):
            with self._asking:
                # Somebody else may have asked meanwhile.
                if self._clock() - self._since >= FRESH:
                    self._renew()
            return self._curves
        if age >= FRESH and self._asking.acquire(blocking=False):
            threading.Thread(target=self._behind, daemon=True).start()
        return known

    def _behind(self) -> None:
        try:
            self._renew()
        finally:
            self._asking.release()

    def _renew(self) -> None:
        now = int(time.time())
        try:
            found = [Curve(one, self._ask(one.expression, now)) for one in FIGURES]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            found = None
        self._curves, self._since = found, self._clock()

    def _ask(self, expression: str, now: int) -> list[float | None]:
        from urllib.parse import urlencode

        begin = now - HOUR
        wanted = {"query": expression, "start": begin, "end": now, "step": STEP}
        answer = http.get(f"{self._prometheus}/api/v1/query_range?{urlencode(wanted)}", ANSWERS)
        return points(json.loads(answer.body), begin, now)


def points(document: Any, begin: int, end: int) -> list[float | None]:
    """Return the values of the one curve of an answer of Prometheus', one for each step.

    Raises:
        KeyError: it is an error.
        ValueError: it is no number.
    """
    curves = document["data"]["result"]
    known = {round(float(at)): float(value) for at, value in curves[0]["values"]} if curves else {}
    # No number is what a division by nothing gives: nobody has asked.
    return [
        value if (value := known.get(at)) is not None and value == value else None  # noqa: PLR0124
        for at in range(begin, end + 1, STEP)
    ]


def section(curves: list[Curve] | None, *, drawn: bool) -> str:
    """The curves as a part of the page; `drawn`: whether scripts are there that draw them."""
    if curves is None:
        return "<p>Prometheus does not answer."
    return (
        '<ul class="cards figures">\n'
        + "\n".join(_card(one, drawn=drawn) for one in curves)
        + "\n</ul>"
    )


def _card(curve: Curve, *, drawn: bool) -> str:
    name = escape(curve.figure.name)
    text = (
        f"<li><h3>{name} <span>{escape(curve.figure.note)}</span></h3>"
        f'<p class="figure">{escape(curve.latest)}'
    )
    # One value is no curve.
    if not drawn or sum(value is not None for value in curve.values) < 2:
        return text
    scale, unit = curve.figure.scale, curve.figure.unit
    known = [value and round(scale * value, 3) for value in curve.values]
    values = json.dumps(known, separators=(",", ":"))
    return (
        f'{text}<canvas hidden height="80" role="img" aria-label="{name} in the last hour" '
        f'data-unit="{unit}" data-values="{values}"></canvas>'
    )
