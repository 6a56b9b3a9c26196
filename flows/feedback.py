"""Feedback by people: samples into a review queue, a suspended run, labels, and on.

No process waits. What people answer is read when the run is resumed: by `feedback-watch`, which
looks every few minutes whether enough is reviewed, or by a person who has it go on with what there
is. The flow then starts from the top; finished stages are reused.
"""

import itertools
from collections.abc import Sequence

from prefect import flow, suspend_flow_run
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from pydantic import Field

from flows.parameters import PipelineParameters
from models.errors import DataError, QuartetError
from tasks.labelling.items import Labels, read_items
from tasks.labelling.pairs import pairs_of
from tasks.labelling.queue import (
    Queue,
    fill_queue,
    is_awaited_queue_done,
    keep_labels,
    kept_labels,
)
from tasks.labelling.rounds import LastRound
from tasks.results.store import StageRef
from tasks.run.exchange import published_folder
from tasks.run.pipeline import FLOW_RUN_TAG, PipelineRun
from tasks.run.planning import planning
from tasks.run.reporting import run_logger
from tasks.settings import load_settings
from tasks.stages.feedback_samples import sample_for_people
from tasks.stages.labels import learn_from_labels
from tasks.tracking.client import Tracker

WATCH = "feedback-watch"
KEY = "feedback"
"""Of suspensions, followed by what is asked about and their number."""
DAYS = 365
"""How long a run may wait for people; its queue waits longer."""


class Resumption(RunInput):
    """A person has the run look at the queue, and go on or wait again."""

    go_on: bool = Field(
        default=True,
        title="Resume now with what there is",
        description="Off = look at the queue, and wait again if it is not done.",
    )


def ask_people(
    p: PipelineParameters,
    pipeline: PipelineRun,
    *,
    data: StageRef,
    sft: StageRef,
    before: Sequence[StageRef] = (),
    rivals: tuple[StageRef, StageRef] | None = None,
) -> tuple[StageRef, StageRef]:
    """Return the samples, and the preferences that people made of all samples so far.

    Args:
        sft: The model that samples.
        before: Samples of earlier rounds, whose answers are read again.
        rivals: Reward models that choose what is asked, if they do.

    Raises:
        DataError: All is answered, and no completion is better than another.
        QuartetError: Answers are missing, and the run has no deployment that could resume it.
    """
    samples = sample_for_people(
        p.feedback,
        p.sampling,
        pipeline=pipeline,
        data=data,
        sft=sft,
        last=LastRound(earlier=before[-1] if before else None, rivals=rivals),
    )
    labels = Labels() if planning() is not None else _labels(p, samples, pipeline, before)
    ties = p.data.ties == "half"
    return samples, learn_from_labels(
        p.feedback, labels, ties=ties, pipeline=pipeline, data=data, samples=samples
    )


def _labels(
    p: PipelineParameters,
    samples: StageRef,
    pipeline: PipelineRun,
    before: Sequence[StageRef] = (),
) -> Labels:
    kept = kept_labels(samples, pipeline)
    if kept is not None:
        return kept
    labels = Labels()
    for each in (*before, samples):
        items = read_items(published_folder(each))
        queue = fill_queue(
            items, each, p.feedback.answered_share, pipeline, twice=p.feedback.rated_twice
        )
        labels += queue.labels
    run_logger().info("review queue %s: %s", queue.name, queue.progress)
    ties = p.data.ties == "half"
    some = bool(pairs_of(labels.rows, ties=ties)[0])
    if not queue.progress.reached(queue.needed):
        _wait(queue, samples, some=some)
    elif not some:
        raise DataError(
            f"review queue {queue.name!r}: {queue.progress}, but no two completions of an item "
            "have different ratings; rate some of them differently, or ask about more prompts "
            "(feedback.prompts)"
        )
    keep_labels(labels, samples, pipeline)
    return labels


def _wait(queue: Queue, samples: StageRef, *, some: bool) -> None:
    """Suspend the run; return if an earlier suspension ended with a person's word to go on.

    Args:
        some: Whether there is anything to go on with.

    Raises:
        QuartetError: The run has no deployment, so nothing could resume it.
    """
    where = queue.page or "MLflow, which `quartet up` starts"
    if not deployment.id:
        raise QuartetError(
            f"review queue {queue.name!r}: {queue.progress}, wanted {queue.needed}; review them in "
            f"{where}, then start the same run again: it reuses what is finished. A run that is "
            "started in Prefect waits by itself"
        )
    form = Resumption.with_initial_data(description=queue.describe())
    _switch_watch(on=True)
    for number in itertools.count(1):
        answer = suspend_flow_run(
            wait_for_input=form,
            timeout=DAYS * 24 * 3600,
            key=f"{KEY}-{samples.digest[:12]}-{number}",
        )
        if answer.go_on and some:
            return
        run_logger().info("%s, %d wanted: waiting again", queue.progress, queue.needed)


def _switch_watch(*, on: bool) -> None:
    """Switch the schedule of `feedback-watch`, if the server has it."""
    with get_client(sync_client=True) as client:
        try:
            known = client.read_deployment_by_name(f"{WATCH}/{WATCH}")
        except ObjectNotFound:
            run_logger().warning(
                "no deployment %s: the run will not resume by itself; start `quartet up`, or "
                "resume it from its page", WATCH,
            )  # fmt: skip
            return
        for schedule in known.schedules:
            if schedule.active != on:
                client.update_deployment_schedule(known.id, schedule.id, active=on)


@flow(name=WATCH, persist_result=False)
def feedback_watch() -> list[str]:
    """Resume the runs whose review queues are done; where no run is left, stop looking.

    Returns:
        The names of the runs that were resumed.
    """
    tracker = Tracker(load_settings())
    tracker.check()
    resumed = []
    with get_client(sync_client=True) as client:
        runs = _unfinished(client)
        for run in runs:
            if not _waits(run):
                continue
            parent = next(iter(tracker.find_tagged({FLOW_RUN_TAG: str(run.id)})), "")
            if parent and is_awaited_queue_done(tracker, parent):
                client.resume_flow_run(run.id, run_input={"go_on": False})
                resumed.append(run.name)
                run_logger().info("%s: its review queue is done, resumed", run.name)
    if not runs:  # one that is running switches it on before it waits
        _switch_watch(on=False)
    return resumed


def _waits(run: FlowRun) -> bool:
    key = run.state.state_details.pause_key if run.state and run.state.is_paused() else None
    return (key or "").startswith(f"{KEY}-")


def _unfinished(client: SyncPrefectClient) -> list[FlowRun]:
    """All runs but this one that run, are about to, or are suspended."""
    states = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED]
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=wanted, limit=200, offset=len(found)):
        found += page
    return [run for run in found if str(run.id) != flow_run.id]
