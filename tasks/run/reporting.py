"""The only Prefect artifacts, run logs and events: progress, links, markdown, what happened.

Outside a Prefect run, as in tests that call a stage's function, artifacts and events are left out
and log lines go to the module's logger. What cannot be shown never stops a stage: a bar is moved
in a thread of its own, so that a Prefect server that hangs costs no training step.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from tasks.catalogue import entry
from tasks.results.store import StageRef
from tasks.run.planning import planning

UPDATE_SECONDS = 5.0
LOG_SECONDS = 10.0
MARK = 0.1
"""Share of a stage's steps after which a line is logged however fast they are."""
MARK_SECONDS = 1.0
BAR_SECONDS = 5.0
"""How long the end of a stage may wait for its bar."""

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
        _try(create_markdown_artifact, markdown=text, key=key, description=description)


def show_link(key: str, address: str, text: str) -> None:
    """Show a link on the run's page."""
    if _in_run():
        _try(create_link_artifact, link=address, link_text=text, key=key)


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
        _try(emit_event, event=event, resource=resource, payload=dict(payload))


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


def steps_to_learn(rows: Path, *, epochs: float, batch_size: int) -> int:
    """Count a stage's optimiser steps, for its bar; 0 where the rows are not here yet.

    A few too many if some rows turn out too long to train on.
    """
    try:
        with rows.open("rb") as lines:
            count = sum(1 for _ in lines)
    except OSError:
        return 0
    return math.ceil(max(1, round(count * epochs)) / batch_size)


class Progress:
    """How far a stage is: a bar on the run's page and now and then a line in its log."""

    def __init__(self, stage: str, total: int) -> None:
        """Count up to `total` steps; 0 if the number is unknown, then the bar fills at the end."""
        self.stage = stage
        self.total = total
        self._logger = run_logger()
        self._artifact: UUID | None = None
        self._first: tuple[float, int] | None = None
        self._last_step = 0
        self._marks = 0
        self._sender: threading.Thread | None = None
        self._started = self._shown = self._logged = time.monotonic()
        if _in_run():
            key, text = f"{stage}-progress", f"{stage}: starting"
            self._artifact = _try(create_progress_artifact, progress=0.0, key=key, description=text)

    def update(self, metrics: Mapping[str, float], step: int) -> None:
        """Take the metrics of a step; cheap, for most calls show nothing."""
        now = time.monotonic()
        self._first = self._first or (now, step)
        self._last_step = step
        if now - self._shown >= UPDATE_SECONDS:
            self._shown = now
            share = step / self.total if self.total else 0.0
            self._fill(min(100.0, 100.0 * share), self._describe(step, now))
        if self._is_worth_a_line(step, now):
            self._logged = now
            headline = _headline(self.stage, metrics)
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in headline)
            self._logger.info("%s%s", self._describe(step, now), f": {numbers}" if numbers else "")

    def finish(self) -> None:
        seconds = time.monotonic() - self._started
        steps = f"{self._last_step} steps in " if self._last_step else ""
        self.wait(BAR_SECONDS)
        self._fill(100.0, f"{self.stage}: done, {steps}{seconds:.0f} s")
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

    def _fill(self, percent: float, description: str) -> None:
        """Move the bar, unless it is still on its way to where it was to be before."""
        if self._artifact is None or (self._sender is not None and self._sender.is_alive()):
            return
        bar = {"artifact_id": self._artifact, "progress": percent, "description": description}
        self._sender = threading.Thread(
            target=_try, args=(update_progress_artifact,), kwargs=bar, daemon=True
        )
        self._sender.start()

    def _describe(self, step: int, now: float) -> str:
        assert self._first is not None
        started, first_step = self._first
        text = f"{self.stage}: step {step}" + (f" of {self.total}" if self.total else "")
        if step > first_step and now > started:
            rate = (step - first_step) / (now - started)
            text += f", {rate:.3g} steps/s"
            if self.total:
                text += f", {max(0, self.total - step) / rate:.0f} s left"
        return text


def _headline(stage: str, metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    row = entry(stage)
    wanted = {curve.metric for curve in row.curves} | {key.metric for key in row.key_metrics}
    return [
        (name, value)
        for name, value in metrics.items()
        if name in wanted or name.split("/")[-1] in LOSSES
    ]


def _try(call: Callable[..., Any], **given: Any) -> Any:
    try:
        return call(**given)
    except Exception as error:  # any failure of a remote service must leave a stage alone
        logging.getLogger(__name__).warning("Prefect does not take what to show: %s", error)
        return None


def _in_run() -> bool:
    if planning() is not None:
        return False
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None
