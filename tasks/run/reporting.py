"""The only run logs and events in Prefect, and how far a stage is.

Outside a Prefect run, as in tests that call a stage's function, artifacts and events are left out
and log lines go to the module's logger. What cannot be shown never stops a stage: while it trains,
it is shown by a thread of its own, so that a Prefect server that hangs costs no training step.
"""

import functools
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from models.progress import told
from models.rows import prompt_key
from tasks.catalogue import entry
from tasks.results.store import StageRef
from tasks.run.cards import Card, try_to_show
from tasks.run.planning import planning

UPDATE_SECONDS = 5.0
LOG_SECONDS = 10.0
MARK = 0.1
"""Share of a stage's steps after which a line is logged however fast they are."""
MARK_SECONDS = 1.0
BAR_SECONDS = 5.0
"""How long the end of a stage may wait for its bar."""
LIVE_SHARE = 0.01
"""Of a stage's time that drawing may take while it trains."""
LIVE_SECONDS = 0.2
"""What drawing is taken to cost before it was done once."""

Bar: TypeAlias = Callable[[float, str, float | None], None]
"""Takes the share of a stage that is done, a description, and the seconds left, if known."""
Live: TypeAlias = Callable[[], None]

SILENT = logging.Logger("planning", level=logging.CRITICAL + 1)

LOSSES = ("loss", "heldout_loss")
"""Worth a log line of every stage, beside what the catalogue says of it."""


def run_logger() -> Any:
    """Return the logger of the Prefect run, or this module's where there is none."""
    if planning() is not None:
        return SILENT
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)


def show_markdown(key: str, text: str, description: str) -> None:
    """Show a text on the run's page."""
    if _in_run():
        Card(key, "markdown").show(text, description)


def emit(event: str, resource_id: str, payload: Mapping[str, Any]) -> None:
    """Emit an event for Prefect's event feed and for automations.

    An automation can match only on labels of the resource, so the texts of the payload stand there
    too: `role: policy` as label `quartet.role`.

    Args:
        event: Such as `quartet.stage.completed`.
        resource_id: What it happened to, such as `quartet.stage.sft`.
        payload: Plain values, all that a receiver needs to know.
    """
    if _in_run():
        texts = {key: text for key, text in payload.items() if isinstance(text, str) and text}
        resource = {"prefect.resource.id": resource_id}
        resource |= {f"quartet.{key}": text for key, text in texts.items()}
        try_to_show(emit_event, event=event, resource=resource, payload=dict(payload))


def announce_stage(ref: StageRef, pipeline: str) -> None:
    """Emit `quartet.stage.completed` for a stage that was computed or reused."""
    metrics = {name: value for name, value in ref.metrics.items() if math.isfinite(value)}
    emit(
        "quartet.stage.completed",
        f"quartet.stage.{ref.stage}",
        {
            "stage": ref.stage,
            "digest": ref.digest,
            "seconds": round(ref.seconds, 3),
            "reused": ref.reused,
            "pipeline": pipeline,
            "metrics": {
                name: value
                for name, value in metrics.items()
                if name.startswith("final/") or (name, value) in _headline(ref.stage, metrics)
            },
        },
    )


def steps_to_learn(rows: Path, *, epochs: float, batch_size: int, by_prompt: bool = False) -> int:
    """Count a stage's optimiser steps, for its bar; 0 where the rows are not here yet.

    A few too many if some rows turn out too long to train on, a few more or less where a share of
    the prompts is learned from.

    Args:
        by_prompt: Whether batches are of prompts, each with all its rows.
    """
    try:
        count = _count(rows, rows.stat().st_mtime, by_prompt=by_prompt)
    except OSError:
        return 0
    return math.ceil(max(1, round(count * epochs)) / batch_size)


@functools.lru_cache(maxsize=32)
def _count(rows: Path, changed: float, *, by_prompt: bool) -> int:
    """Rows or prompts of a file, once for each change: plan and run, stage after stage ask."""
    with rows.open("rb") as file:
        lines = told(file, f"counting {rows.name}", unit="rows")
        if by_prompt:
            return len({prompt_key(json.loads(line)) for line in lines})
        return sum(1 for _ in lines)


class Progress:
    """How far a stage is: moves the bar of the run, and now and then logs a line."""

    def __init__(self, stage: str, total: int, bar: Bar, live: Live | None = None) -> None:
        """Count up to `total` steps; 0 if the number is unknown, then the bar moves at the end.

        Args:
            bar: Is moved now and then, and at the end.
            live: Shows what the stage has recorded so far; it is called at each tenth, as far as
                that takes `LIVE_SHARE` of the time at most.
        """
        self.stage = stage
        self.total = total
        self._bar, self._live = bar, live
        self._logger = run_logger()
        self._first: tuple[float, int] | None = None
        self._last_step = 0
        self._marks = self._live_marks = 0
        self._live_seconds, self._live_costs = 0.0, LIVE_SECONDS
        self._sender: threading.Thread | None = None
        self._started = self._shown = self._logged = time.monotonic()

    def update(self, metrics: Mapping[str, float], step: int) -> None:
        """Take the metrics of a step; cheap, for most calls show nothing."""
        now = time.monotonic()
        self._first = self._first or (now, step)
        self._last_step = step
        if now - self._shown >= UPDATE_SECONDS:
            self._shown = now
            share = min(1.0, step / self.total) if self.total else 0.0
            live = self._is_worth_a_picture(step, now)
            self._show(share, self._describe(step, now), self._left(step, now), live=live)
        if self._is_worth_a_line(step, now):
            self._logged = now
            headline = _headline(self.stage, metrics)
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in headline)
            self._logger.info("%s%s", self._describe(step, now), f": {numbers}" if numbers else "")

    def finish(self) -> None:
        seconds = time.monotonic() - self._started
        steps = f"{self._last_step} steps in " if self._last_step else ""
        self.wait(BAR_SECONDS)
        self._show(1.0, f"{self.stage}: done, {steps}{seconds:.0f} s", 0.0)
        self.wait(BAR_SECONDS)

    def wait(self, seconds: float) -> None:
        if self._sender is not None:
            self._sender.join(seconds)

    def _is_worth_a_line(self, step: int, now: float) -> bool:
        """Every ten seconds, and at each tenth of the way."""
        silent = now - self._logged
        marks = int(step / self.total / MARK + 1e-9) if self.total else 0
        passed, self._marks = marks > self._marks, max(marks, self._marks)
        return silent >= LOG_SECONDS or (passed and silent >= MARK_SECONDS)

    def _is_worth_a_picture(self, step: int, now: float) -> bool:
        """At each tenth of the way that has earned the time of drawing it."""
        marks = int(step / self.total / MARK + 1e-9) if self.total else 0
        spent = self._live_seconds + self._live_costs
        if marks <= self._live_marks or spent > LIVE_SHARE * (now - self._started):
            return False
        self._live_marks = marks
        return True

    def _show(
        self, share: float, description: str, left: float | None, *, live: bool = False
    ) -> None:
        """Move the bar, unless it is still on its way to where it was to be before."""
        if self._sender is not None and self._sender.is_alive():
            return

        def send() -> None:
            try_to_show(self._bar, share, description, left)
            if live and self._live is not None:
                started = time.thread_time()  # what the training had to wait for
                try_to_show(self._live)
                self._live_costs = time.thread_time() - started
                self._live_seconds += self._live_costs

        self._sender = threading.Thread(target=send, daemon=True)
        self._sender.start()

    def _rate(self, step: int, now: float) -> float:
        """Steps per second; 0 as long as it is unknown."""
        assert self._first is not None
        started, first_step = self._first
        return (step - first_step) / (now - started) if step > first_step and now > started else 0.0

    def _left(self, step: int, now: float) -> float | None:
        rate = self._rate(step, now)
        return (self.total - step) / rate if rate and self.total >= max(1, step) else None

    def _describe(self, step: int, now: float) -> str:
        text = f"{self.stage}: step {step}" + (
            f" of {self.total}" if self.total >= max(1, step) else ""
        )
        if rate := self._rate(step, now):
            text += f", {rate:.3g} steps/s"
        left = self._left(step, now)
        return text if left is None else f"{text}, {left:.0f} s left"


def _headline(stage: str, metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    row = entry(stage)
    wanted = {curve.metric for curve in row.curves} | {key.metric for key in row.key_metrics}
    return [
        (name, value)
        for name, value in metrics.items()
        if name in wanted or name.split("/")[-1] in LOSSES
    ]


def _in_run() -> bool:
    if planning() is not None:
        return False
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None
