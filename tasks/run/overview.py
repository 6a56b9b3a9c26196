"""What the page of a flow run says first: one report and one bar for all of its stages.

The report is there from the run's first second and is renewed as stages begin and end: how the run
stands, its runs in MLflow, its models, its plan, and in the end the verdict with its table, samples
and pictures. The bar goes when the run is done. Whoever has something to say of the run asks for
`overview()`; outside a flow run it says nothing to nobody.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from tasks.catalogue import entry
from tasks.escaping import for_markdown
from tasks.results.store import StageRef
from tasks.run.cards import Card, try_to_show
from tasks.run.reporting import Bar

CELL = 200
"""Characters of a model's or a run's name."""
HEADLINE, TAG = 2000, 200
"""Characters of how the run ended that its card and its tag show."""

RUNNING, LEFT = "running", "not finished"


@dataclass(slots=True, kw_only=True)
class _Row:
    """A stage in the report's table."""

    stage: str
    part: str = ""
    status: str = RUNNING
    seconds: float | None = None
    numbers: str = ""
    address: str = ""
    page: str = ""

    def cells(self) -> tuple[str, ...]:
        took = "" if self.seconds is None else f"{self.seconds:.1f}"
        links = [f"[MLflow]({self.address})"] if self.address else []
        links += [f"[report]({self.page})"] if self.page else []
        return (
            f"{self.stage} {self.part}".strip(),
            self.status,
            took,
            ", ".join(links),
            self.numbers,
        )


@dataclass(slots=True)
class _Parts:
    """What the report consists of."""

    run: str = ""
    note: str = ""
    plan: str = ""
    models: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    rows: list[_Row] = field(default_factory=list)


class Overview:
    """The report and the bar of the flow run in which it is made."""

    def __init__(self, *, shown: bool = True) -> None:
        self.shown = shown
        self._report, self._bar = Card("report", "markdown"), Card("progress", "progress")
        self._parts = _Parts()
        self._expected: list[tuple[str, float | None]] = []
        self._headline = "started"
        self._show()

    def expect(self, stages: Sequence[tuple[str, float | None]], plan: str = "") -> None:
        """Say which stages will run, in their order, and how many seconds each takes, if known.

        A stage of several rounds stands there once for each.

        Args:
            plan: What the report says of it.
        """
        self._expected, self._parts.plan = list(stages), plan
        self._show()

    def belongs_to(self, name: str, address: str, note: str = "") -> None:
        """Name the run in MLflow, which has no address where no server serves it.

        Args:
            note: What a person wrote of the run.
        """
        shown = for_markdown(name, CELL)
        self._parts.run = f"[{shown}]({address})" if address else shown
        self._parts.note = for_markdown(note, HEADLINE)

    def begin(self, stage: str, part: str = "") -> Bar:
        """Show that a stage is being computed, and give what moves the bar for it."""
        row = self._row(stage)
        row.part = part
        self.move(stage, 0.0, f"{stage}: starting")
        self._headline = f"running: {self._place(stage)}"
        row.status = RUNNING
        self._show()
        return functools.partial(self.move, stage)

    def link(self, stage: str, address: str = "", *, page: str = "") -> None:
        """Add to a stage the address of its MLflow run, or of its own page."""
        row = self._row(stage)
        row.address, row.page = address or row.address, page or row.page

    def end_stage(self, ref: StageRef, part: str = "") -> None:
        """Show that a stage was computed or reused."""
        row = self._row(ref.stage)
        row.part = part
        row.status = "reused" if ref.reused else "new"
        row.seconds, row.numbers = ref.seconds, entry(ref.stage).numbers(ref.metrics)
        if not ref.reused:  # else there are several in a second
            self._show()

    def add_model(self, uri: str, address: str) -> None:
        """Name a version that holds what the run made."""
        shown = f"[{for_markdown(uri, CELL)}]({address})" if address else for_markdown(uri, CELL)
        if shown not in self._parts.models:
            self._parts.models.append(shown)

    def add_text(self, stage: str, text: str) -> None:
        """Put the page of a stage's result into the report; of several rounds the last stays."""
        self._parts.texts[stage] = text

    def move(self, stage: str, share: float, description: str, left: float | None = None) -> None:
        """Move the bar to where the whole run is when a share of a stage is done.

        A stage of unknown length counts as much as the mean of the others; of the one that runs,
        the seconds that are left are better known than any plan says.
        """
        if not self.shown:
            return
        place, known = self._place(stage), [one for _, one in self._expected if one]
        mean = sum(known) / len(known) if known else 1.0
        lengths = [mean if one is None else one for _, one in self._expected]
        total, at = sum(lengths), self._at(stage)
        if at is None or not total:
            self._bar.show(100.0 * share, f"{place}: {description}")
            return
        done = sum(lengths[:at]) + share * lengths[at]
        own = (1.0 - share) * lengths[at]
        whole = total - done - own + (own if left is None else left)
        is_known = all(one is not None for _, one in self._expected)
        text = f"; about {duration(whole)} left in all" if is_known else ""
        self._bar.show(min(100.0, 100.0 * done / total), f"{place}: {description}{text}")

    def end(self, headline: str, *, tag: bool = False, done: bool = False) -> None:
        """Say how the run ended.

        Args:
            headline: In one line.
            tag: Whether the list of runs shows it too.
            done: Whether it came to its end.
        """
        if not self.shown:
            return
        self._headline = headline
        for row in self._parts.rows:
            row.status = LEFT if row.status == RUNNING else row.status
        self._show()
        if done:  # the report says it all
            self._bar.remove()
        if tag:
            try_to_show(_tag_run, headline[:TAG])

    def _row(self, stage: str) -> _Row:
        """The last row of a stage, or a new one if that is finished."""
        for row in reversed(self._parts.rows):
            if row.stage == stage and row.status == RUNNING:
                return row
        self._parts.rows.append(_Row(stage=stage))
        return self._parts.rows[-1]

    def _at(self, stage: str) -> int | None:
        """Where a stage stands among those expected: in its round, if there are several."""
        there = [at for at, (name, _) in enumerate(self._expected) if name == stage]
        begun = sum(row.stage == stage for row in self._parts.rows)
        return there[min(max(begun, 1), len(there)) - 1] if there else None

    def _place(self, stage: str) -> str:
        at = self._at(stage)
        if at is not None:
            return f"stage {at + 1} of {len(self._expected)}"
        return f"stage {max(1, len(self._parts.rows))}"

    def _show(self) -> None:
        if not self.shown:
            return
        parts = self._parts
        run = f"Run in MLflow: {parts.run}" if parts.run else ""
        models = f"Registered models: {', '.join(parts.models)}" if parts.models else ""
        note = f"Note: {parts.note}" if parts.note else ""
        facts = "  \n".join(filter(None, (note, run, models)))
        header = ("stage", "", "seconds", "more", "numbers")
        lines = [header, ("---", "---", "---:", "---", "---"), *(row.cells() for row in parts.rows)]
        stages = "\n".join(f"| {' | '.join(line)} |" for line in lines) if parts.rows else ""
        plan = f"**Plan**\n\n{parts.plan}" if parts.plan else ""
        text = "\n\n".join(filter(None, (facts, *parts.texts.values(), stages, plan)))
        headline = for_markdown(self._headline, HEADLINE)
        self._report.show(text or headline, headline)


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


_current: ContextVar[Overview | None] = ContextVar("overview", default=None)


def overview() -> Overview:
    """The overview of the present flow run; a silent one where there is none."""
    return _current.get() or Overview(shown=False)


@contextlib.contextmanager
def shown_overview() -> Iterator[Overview]:
    """Show the overview of the flow run in which the block runs."""
    made = Overview()
    token = _current.set(made)
    try:
        yield made
    finally:
        _current.reset(token)


VERDICT = "verdict: "


def _tag_run(headline: str) -> None:
    """Tag the flow run with how it ended: Prefect's list of runs shows tags, but no messages."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(context.flow_run.id)
        kept = [tag for tag in run.tags if not tag.startswith(VERDICT)]
        client.update_flow_run(run.id, tags=[*kept, f"{VERDICT}{headline}"])
