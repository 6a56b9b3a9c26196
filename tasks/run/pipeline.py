"""The MLflow parent of one pipeline run, opened and closed around its stages."""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from prefect.exceptions import Pause
from pydantic import BaseModel

from tasks.run.overview import overview
from tasks.run.reporting import run_logger
from tasks.settings import Settings, load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.facts import (
    FLOW_RUN_TAG,
    HOST_TAG,
    code_tags,
    hardware_tags,
    kill_running,
    show_totals,
)
from tasks.tracking.outages import (
    REMEDY,
    OutageNote,
    Status,
    describe,
    drop_note,
    write_note,
)
from tasks.tracking.recording import flatten, note_tags
from tasks.tracking.sync import deliver_notes

WAIT_SECONDS = 150.0
"""How long a finished pipeline waits for an MLflow that is away: longer than a restart takes."""


class PipelineRun(BaseModel, frozen=True):
    """What each stage needs to know of the pipeline run it belongs to.

    Attributes:
        name: The same in Prefect and MLflow.
        run_id: The MLflow parent run.
        flow_run_id: The Prefect flow run; empty outside one.
        fresh: Whether the MLflow run is new, and so shows nothing of earlier attempts.
        part: What a stage makes that stands in the run several times, such as a model's name.
    """

    name: str
    preset: str
    seed: int
    run_id: str
    flow_run_id: str = ""
    fresh: bool = False
    part: str = ""


@contextlib.contextmanager
def open_pipeline(
    *,
    name: str,
    preset: str,
    seed: int,
    parameters: Mapping[str, Any],
    flow_run_id: str = "",
    note: str = "",
    kind: str = "pipeline",
    changed: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[PipelineRun]:
    """Open the parent run; close it as finished, failed, killed, or suspended (`SCHEDULED`).

    Args:
        flow_run_id: The Prefect flow run. When that one is retried or resumed, its parent run is
            opened again.
        note: What a person wrote about the run.
        kind: Tells pipelines from other flows, which have no verdict, in MLflow's list.
        changed: What differs from the preset, by dotted name.

    Raises:
        QuartetError: The tracking server does not answer.
    """
    settings = load_settings()
    tracker = Tracker(settings)
    tracker.check()
    tags = {
        "quartet.kind": kind,
        "quartet.preset": preset,
        "quartet.seed": str(seed),
        HOST_TAG: socket.gethostname(),
        **code_tags(),
        **hardware_tags(settings),
    }
    if changed:
        tags["quartet.changed"] = ", ".join(f"{name}={value}" for name, value in changed.items())
    run_id = opened_before = _run_of(tracker, flow_run_id)
    status: Status = "KILLED"  # unless it ends otherwise than by a signal
    try:
        if run_id:  # an earlier attempt of this flow run opened it
            tracker.reopen_run(run_id, tags | {"quartet.resumed": "true"})
            drop_note(settings.root, run_id)
        else:
            tags |= {FLOW_RUN_TAG: flow_run_id} if flow_run_id else {}
            tags |= note_tags(note)
            run_id = tracker.start_run(name, parameters=flatten(parameters), tags=tags)
        overview().belongs_to(name, page_address(settings, tracker, run_id), note)
        yield PipelineRun(
            name=name, preset=preset, seed=seed, run_id=run_id, flow_run_id=flow_run_id,
            fresh=not opened_before,
        )  # fmt: skip
        status = "FINISHED"
    except Pause:
        status = "SCHEDULED"
        raise
    except Exception:
        status = "FAILED"
        raise
    finally:
        if not run_id:  # a signal may strike while it is opened
            with contextlib.suppress(Exception):  # else MLflow is away, which its own error says
                run_id = _run_of(tracker, flow_run_id)
        if run_id:
            _close(settings, tracker, OutageNote(name=name, run_id=run_id, status=status))


def _run_of(tracker: Tracker, flow_run_id: str) -> str:
    """The MLflow run that a Prefect flow run has opened; empty if it has not."""
    found = tracker.find_tagged({FLOW_RUN_TAG: flow_run_id}) if flow_run_id else []
    return next(iter(found), "")


def page_address(settings: Settings, tracker: Tracker, run_id: str) -> str:
    """Where a run's page is; empty where no server serves it."""
    uri = settings.tracking_uri
    return f"{uri.rstrip('/')}/{tracker.page(run_id)}" if uri else ""


def _close(settings: Settings, tracker: Tracker, end: OutageNote) -> None:
    """Close the parent run, and record what MLflow missed of the stages, if it is there."""
    logger = run_logger()
    try:
        if not tracker.reachable():
            if end.status == "FINISHED":  # else somebody waits for the end
                logger.warning("MLflow does not answer; waiting up to %.0f s for it", WAIT_SECONDS)
            if end.status != "FINISHED" or not tracker.wait(WAIT_SECONDS):
                raise ConnectionError("the server does not answer")
        if end.status == "KILLED":  # a signal may strike between a stage's run and its guard
            kill_running(tracker, end.run_id)
        tracker.finish(end.run_id, end.status)
        for sentence in deliver_notes(settings, tracker, parent=end.run_id):
            logger.info("after an outage: %s", sentence)
        show_totals(tracker, end.run_id)
    except Exception as error:  # any failure of a remote service must leave results alone
        logger.warning(
            "MLflow failed at the end of %s (%s): that it is %s could not be recorded; %s",
            end.name, describe(error), end.status, REMEDY,
        )  # fmt: skip
        write_note(settings.root, end)
