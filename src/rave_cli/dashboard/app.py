"""`rave pool top` at a terminal: four tabs over a pool, and what may be done with its jobs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import DataTable, Footer, Input, TabbedContent, TabPane

from rave_cli import audit, signals
from rave_cli.audit import AuditedCommand
from rave_cli.dashboard.desk import ChangeListener, PoolDesk
from rave_cli.dashboard.guard import guarded
from rave_cli.dashboard.logtail import LogTail
from rave_cli.dashboard.picture import (
    AGENTS,
    DEAD,
    EVENTS,
    JOBS,
    JobFilter,
    agent_row,
    dead_row,
    event_row,
    head_line,
    job_row,
    look,
    queue_lines,
    short,
    told_of,
    trouble,
)
from rave_cli.dashboard.screens import ConfirmScreen, LogScreen, TextScreen
from rave_cli.dashboard.table import JobTable, JobTableRow, SaidText
from rave_cli.errors import RaveError
from rave_cli.text import line

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.binding import BindingType

    from rave_cli.dashboard.picture import PoolPicture
    from rave_cli.pool.access.pool import PoolAccess
    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.store import Piece

# Seconds between two looks at a pool of which nothing is heard, between a change and the look that
# it makes worth while, and between two at the output of a job that is shown.
LOOK = 2.0
SOON = 0.2
PRINTS = 0.5

# Seconds after which what is shown is said to be old.
OLD = 10.0

MOST_EVENTS = 200

# Each with its title, and what heads its table.
TABS = {
    "jobs": ("Jobs", JOBS),
    "agents": ("Agents", AGENTS),
    "queue": ("Queue and dead letters", DEAD),
    "events": ("Events", EVENTS),
}

HELP = [
    "1 2 3 4   Jobs, Agents, Queue and dead letters, Events",
    "Enter, e  explain: why the selected job waits, and what helps",
    "l         logs: the end of what it printed, and what it prints",
    "c         cancel it",
    "r         retry: submit what it asked for again",
    "d         drop: list a dead letter no more",
    "/         filter: states, and words of names and commands; Esc ends it",
    "n p       the next page of jobs, and the first",
    "q         quit",
]


class PoolTop(App[None]):
    """The dashboard of the pool at an endpoint; `clock` tells seconds since the epoch."""

    TITLE = "rave pool top"
    ENABLE_COMMAND_PALETTE = False
    # As Textual declares it.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012
    CSS = """
    Screen { overflow: hidden; }
    TabbedContent { height: 1fr; }
    #head { height: 1; text-style: bold; padding: 0 1; }
    #trouble { height: auto; max-height: 3; color: $warning; padding: 0 1; display: none; }
    #filter { display: none; height: 3; }
    JobTable { width: 2fr; height: 1fr; scrollbar-size-horizontal: 0; }
    .detail { width: 1fr; height: 1fr; padding: 0 1; }
    .-narrow .detail { display: none; }
    #counts { height: auto; max-height: 50%; padding: 0 1; }
    TabPane { padding: 0; }
    .over { width: 80%; max-width: 100; height: auto; max-height: 80%; padding: 1 2;
            background: $surface; border: round $primary; }
    .title { text-style: bold; height: auto; }
    .keys { color: $text-muted; height: 1; margin-top: 1; }
    ConfirmScreen, TextScreen, LogScreen { align: center middle; }
    LogScreen { background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("e", "explain", "Explain"),
        ("l", "logs", "Logs"),
        ("c", "cancel", "Cancel"),
        ("r", "retry", "Retry"),
        ("d", "drop", "Drop"),
        ("slash", "filter", "Filter"),
        ("question_mark", "keys", "Keys"),
        ("q", "quit", "Quit"),
        # Whatever lies over the tabs or takes what is typed.
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("1", "tab('jobs')", show=False),
        Binding("2", "tab('agents')", show=False),
        Binding("3", "tab('queue')", show=False),
        Binding("4", "tab('events')", show=False),
        Binding("n", "page(True)", show=False),
        Binding("p", "page(False)", show=False),
    ]

    class JobChanged(Message):
        """A job is another than before."""

        def __init__(self, job: Job) -> None:
            super().__init__()
            self.job = job

    class Unheard(Message):
        """Nothing is told of changes any more."""

    def __init__(self, endpoint: str | None, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.animation_level = "none"
        self.ended: int | None = None
        self.picture: PoolPicture | None = None
        self._endpoint, self._clock = endpoint, clock
        self._away = ""
        self._filter, self._before = JobFilter(), ""
        self._events: deque[tuple[int, float, Job]] = deque(maxlen=MOST_EVENTS)
        self._looking = self._again = self._soon = False
        self._head = SaidText(id="head")
        self._trouble = SaidText(id="trouble")
        self._asked = Input(placeholder="states and words, as: running make", id="filter")
        self._tabs = TabbedContent(initial="jobs")
        self._counts = SaidText(id="counts")
        self._tables = {tab: JobTable(heads) for tab, (_, heads) in TABS.items()}
        self._details = {tab: SaidText() for tab in TABS}

    def compose(self) -> ComposeResult:
        """As Textual."""
        yield self._head
        yield self._trouble
        yield self._asked
        with self._tabs:
            for tab, (title, _) in TABS.items():
                with TabPane(title, id=tab):
                    if tab == "queue":
                        yield self._counts
                    with Horizontal():
                        yield self._tables[tab]
                        with VerticalScroll(classes="detail", can_focus=False):
                            yield self._details[tab]
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """As Textual."""
        self._desk = PoolDesk(self._endpoint)
        self._listener = ChangeListener(
            self._endpoint,
            lambda job: self.post_message(self.JobChanged(job)),
            lambda: self.post_message(self.Unheard()),
        )
        self._turning = asyncio.get_running_loop()
        if self.ended is not None:
            self.exit()
        self.set_interval(LOOK, self._turn)
        self.look()
        self._table.focus()

    def on_unmount(self) -> None:
        """As Textual."""
        self._listener.end()
        self._desk.close()

    def ended_by(self, number: int) -> None:
        """End in order, because of a signal; called in the main thread, between any two steps."""
        self.ended = number
        if self.is_running:
            self._turning.call_soon_threadsafe(self.exit)

    # --- what is seen

    def _turn(self) -> None:
        self._draw()
        self.look()

    def look(self) -> None:
        """Ask how the pool is, now, or once more as soon as it has answered."""
        self._again = True
        if not self._looking:
            self._looking = True
            self.run_worker(cast("Any", self._look), group="look")

    async def _look(self) -> None:
        try:
            while self._again:
                self._again = False
                asked = partial(
                    look, states=self._filter.states, before=self._before,
                    dead=self._tab == "queue",
                )  # fmt: skip
                try:
                    self.picture = await self._ask(asked)
                    self._away = ""
                except RaveError as error:
                    self._away = f"{error.message}; it is asked again   ({error.hint})"
                self._draw()
        finally:
            self._looking = False

    async def _ask(self, question: Callable[[PoolAccess], Any]) -> Any:  # noqa: ANN401 - any answer
        return await asyncio.wrap_future(self._desk.ask(question))

    def on_pool_top_job_changed(self, message: JobChanged) -> None:
        """Note a change, and look soon, however many come."""
        number = self._events[0][0] + 1 if self._events else 1
        self._events.appendleft((number, self._clock(), message.job))
        if not self._soon:
            self._soon = True
            self.set_timer(SOON, self._due)

    def _due(self) -> None:
        self._soon = False
        self.look()

    def on_pool_top_unheard(self, _message: Unheard) -> None:
        """Look at how things stand: what is told of a pool that is gone comes with the answer."""
        self.look()

    def _draw(self) -> None:
        now, picture = self._clock(), self.picture
        said = self._away or (trouble(picture) if picture is not None else "")
        head = "the pool is asked" if picture is None else head_line(picture, now)
        if picture is not None and now - picture.at > OLD:
            head = f"{now - picture.at:.0f} s ago: {head}"
        self._head.say(short(head))
        self._trouble.display = bool(said)
        self._trouble.say(short(said, 400))
        if picture is not None:
            self._fill(picture, now)
        self._draw_detail()

    def _fill(self, picture: PoolPicture, now: float) -> None:
        tab = self._tab
        rows: list[JobTableRow]
        if tab == "jobs":
            jobs = [job for job in picture.jobs if self._filter.takes(job)]
            rows = [JobTableRow(job.name, job_row(job, now), job) for job in jobs]
        elif tab == "agents":
            rows = [
                JobTableRow(job.name, agent_row(job, now), job) for job in picture.standing.running
            ]
        elif tab == "queue":
            rows = [JobTableRow(job.name, dead_row(job, now), job) for job in picture.dead]
            self._counts.say("\n".join(queue_lines(picture, now)))
        else:
            rows = [
                JobTableRow(str(number), event_row(job, heard), job)
                for number, heard, job in self._events
                if self._filter.takes(job)
            ]
        self._table.fill(rows)

    def _draw_detail(self) -> None:
        job = self._table.job
        shown = [] if job is None else told_of(job, self._clock())
        if self._tab == "jobs" and self.picture is not None and self.picture.after:
            shown += ["", "n: older jobs" + ("   p: the newest" if self._before else "")]
        self._details[self._tab].say("\n".join(shown))

    @property
    def _tab(self) -> str:
        return self._tabs.active or "jobs"

    @property
    def _table(self) -> JobTable:
        return self._tables[self._tab]

    # --- what is pressed

    def action_tab(self, tab: str) -> None:
        """Show a tab."""
        self._tabs.active = tab

    def on_tabbed_content_tab_activated(self) -> None:
        """Show what the tab has, and let keys go to it."""
        if self.picture is not None:
            self._draw()
        self.look()
        self._table.focus()

    def on_data_table_row_highlighted(self) -> None:
        """Show the job that is selected."""
        self._draw_detail()

    async def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Explain the job."""
        event.stop()
        self.action_explain()

    def action_keys(self) -> None:
        """Say what may be pressed."""
        self.push_screen(TextScreen("keys", HELP))

    def action_filter(self) -> None:
        """Let somebody say what they want to see."""
        self._asked.display = True
        self._asked.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Show only that."""
        self._show_only(JobFilter.of(event.value))

    def on_key(self, event: Any) -> None:  # noqa: ANN401 - of Textual
        """Let Escape end a filter, wherever it is pressed."""
        if event.key == "escape" and self._asked.display:
            self._asked.value = ""
            self._show_only(JobFilter())

    def _show_only(self, found: JobFilter) -> None:
        self._filter, self._before = found, ""
        self._asked.display = found != JobFilter()
        self._table.focus()
        self._draw()
        self.look()

    def action_page(self, older: bool) -> None:
        """Show the page of older jobs, or the first."""
        after = self.picture.after if self.picture is not None else ""
        if older and not after:
            self.notify("there are no older jobs", markup=False)
            return
        self._before = after if older else ""
        self.action_tab("jobs")
        self.look()

    def action_explain(self) -> None:
        """Say why the selected job waits."""
        self._with_job(self._explain)

    async def _explain(self, job: Job) -> None:
        found, reasons = await self._ask(lambda pool: pool.explain(job.name))
        lines = []
        for reason in reasons:
            lines.append(f"{reason.code}: {reason.text}")
            if reason.hint:
                lines.append(f"  try: {reason.hint}")
        said = told_of(found, self._clock())[1:]
        self.push_screen(TextScreen(f"job {found.name} is {found.state}", [*lines, "", *said]))

    def action_cancel(self) -> None:
        """Cancel the selected job, if that is what is wanted."""
        self._with_job(
            partial(
                self._act, "cancel", lambda pool, job: pool.cancel(job.name), "is to be cancelled"
            )
        )

    def action_retry(self) -> None:
        """Submit again what the selected job asked for, if that is what is wanted."""
        self._with_job(
            partial(self._act, "retry", lambda pool, job: pool.retry([job.name]), "is tried again")
        )

    def action_drop(self) -> None:
        """List the selected dead letter no more, if that is what is wanted."""
        if self._tab != "queue":
            self.notify("only a dead letter is dropped: 3, and select it", markup=False)
            return
        self._with_job(
            partial(self._act, "dead --drop", lambda pool, job: pool.drop([job.name]), "is dropped")
        )

    async def _act(
        self, verb: str, question: Callable[[PoolAccess, Job], Any], done: str, job: Job
    ) -> None:
        """Do something with a job after it was asked whether to; the audit log hears of it."""
        word = verb.removeprefix("dead --")
        asked = f"{word} job {job.name} ({short(job_row(job, self._clock())[-1], 60)})?"
        if not await self.push_screen_wait(ConfirmScreen(asked)):
            return
        told = AuditedCommand.of(f"pool {verb}", [job.name], ["top"])

        def audited(pool: PoolAccess) -> Any:  # noqa: ANN401 - any answer
            warned: list[str] = []
            with audit.attempt(told, warned.append) as attempt:
                try:
                    return question(pool, job), warned
                except RaveError as error:
                    attempt.exit_code = int(error.exit_code)
                    raise

        _, warned = await self._ask(audited)
        for warning in warned:
            self.notify(line(warning), severity="warning", markup=False)
        self.notify(f"job {job.name} {done}", markup=False)
        self.look()

    def action_logs(self) -> None:
        """Show what the selected job prints."""
        self._with_job(self._logs)

    async def _logs(self, job: Job) -> None:
        screen = LogScreen(f"{job.name} {job.state}: {short(job_row(job, self._clock())[-1], 120)}")
        await self.push_screen(screen)
        tail, attempt = LogTail(), job.attempt
        while True:
            found, pieces = await self._ask(
                partial(_printed, name=job.name, attempt=attempt, after=tail.after)
            )
            if not screen.is_current:
                return
            if found.attempt != attempt:
                tail, attempt = LogTail(), found.attempt
                screen.add(["", f"--- attempt {attempt}"])
                continue
            screen.add(tail.take(pieces))
            if not pieces and found.over:
                screen.add(tail.end())
                screen.say(short(f"{found.name} {found.state}: it is over", 200))
                return
            if not pieces:
                await asyncio.sleep(PRINTS)

    def _with_job(self, do: Callable[[Job], Any]) -> None:
        job = self._table.job
        if job is None:
            self.notify("no job is selected", markup=False)
            return

        async def told() -> None:
            try:
                await do(job)
            except RaveError as error:
                hint = f"\n{line(error.hint)}" if error.hint else ""
                said = f"{line(error.message)}{hint}"
                self.notify(said, severity="error", markup=False, timeout=10)

        self.run_worker(cast("Any", told), group="asked", exclusive=True)


def _printed(pool: PoolAccess, *, name: str, attempt: int, after: int) -> tuple[Job, list[Piece]]:
    job = pool.load(name)
    return job, pool.printed(job, after) if job.attempt == attempt else []


def run(endpoint: str | None) -> int:
    """Show the dashboard of a pool until somebody has seen enough; return the exit code.

    Raises:
        signals.Interrupted: a signal ended it.
    """
    with guarded():
        top = PoolTop(endpoint)
        with signals.handed(top.ended_by):
            top.run(mouse=False)
    if top.ended is not None:
        raise signals.Interrupted(top.ended)
    return top.return_code or 0
