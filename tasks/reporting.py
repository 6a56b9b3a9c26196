"""The only Prefect artifacts and run logs: progress, links and markdown.

Outside a Prefect run, as in tests that call a stage's function, artifacts are left out and log
lines go to the module's logger. An artifact that cannot be shown never stops a stage.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

__all__ = ["Progress", "run_logger", "show_link", "show_markdown"]

UPDATE_SECONDS = 5.0
LOG_SECONDS = 20.0


def run_logger() -> Any:
    """Return the logger of the Prefect run, or this module's where there is none."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)


def show_markdown(key: str, text: str, description: str) -> None:
    """Show a text on the run's page."""
    if _in_run():
        with _optional():
            create_markdown_artifact(markdown=text, key=key, description=description)


def show_link(key: str, address: str, text: str) -> None:
    """Show a link on the run's page."""
    if _in_run():
        with _optional():
            create_link_artifact(link=address, link_text=text, key=key)


class Progress:
    """How far a stage is: a bar on the run's page and now and then a line in its log."""

    def __init__(self, stage: str, total: int) -> None:
        """Count up to `total` steps; 0 if the number is unknown, then only lines are logged."""
        self.stage = stage
        self.total = total
        self._logger = run_logger()
        self._artifact: UUID | None = None
        self._first: tuple[float, int] | None = None
        self._shown = self._logged = time.monotonic()
        if total and _in_run():
            with _optional():
                self._artifact = cast(
                    UUID,  # a coroutine only where the caller is one
                    create_progress_artifact(
                        progress=0.0, key=f"{stage}-progress", description=f"{stage}: starting"
                    ),
                )

    def update(self, metrics: Mapping[str, float], step: int) -> None:
        """Take the metrics of a step; cheap, for most calls show nothing."""
        now = time.monotonic()
        self._first = self._first or (now, step)
        if now - self._shown >= UPDATE_SECONDS and self._artifact is not None:
            self._shown = now
            self._fill(min(100.0, 100.0 * step / self.total), self._describe(step, now))
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in _headline(metrics))
            self._logger.info("%s%s", self._describe(step, now), f": {numbers}" if numbers else "")

    def finish(self) -> None:
        """Fill the bar."""
        if self._artifact is not None:
            self._fill(100.0, f"{self.stage}: done")

    def _fill(self, percent: float, description: str) -> None:
        assert self._artifact is not None
        with _optional():
            update_progress_artifact(
                artifact_id=self._artifact, progress=percent, description=description
            )

    def _describe(self, step: int, now: float) -> str:
        assert self._first is not None
        started, first_step = self._first
        text = f"{self.stage}: step {step}" + (f" of {self.total}" if self.total else "")
        if step > first_step and now > started:
            rate = (step - first_step) / (now - started)
            text += f", {rate:.3g} steps/s"
            if self.total:
                text += f", {(self.total - step) / rate:.0f} s left"
        return text


def _headline(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """The few numbers worth a log line."""
    wanted = ("loss", "score", "kl_to_reference", "completion_tokens", "accuracy")
    return [(name, value) for name, value in metrics.items() if name.split("/")[-1] in wanted]


@contextlib.contextmanager
def _optional() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # any failure of a remote service must leave a stage alone
        logging.getLogger(__name__).warning("Prefect does not take an artifact: %s", error)


def _in_run() -> bool:
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None
