"""Waiting for people without a process: the run is suspended until a review queue is done.

What people answer is read when the run is resumed: by `feedback-watch`, which looks every few
minutes whether enough is reviewed, or by a person who has it go on with what there is. The flow
then starts from the top; finished stages are reused.
"""

import itertools
from collections.abc import Callable
from typing import TypeVar

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

from tasks.labelling.queue import is_awaited_queue_done
from tasks.labelling.waiting import AwaitingPeopleError, going_on
from tasks.run.reporting import run_logger
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.facts import FLOW_RUN_TAG

T = TypeVar("T")

WATCH = "feedback-watch"
KEY = "people"
"""Of suspensions, followed by what the queue is named after and their number."""
DAYS = 365
"""How long a run may wait for people; its queue waits longer."""


class Resumption(RunInput):
    """A person has the run look at the queue, and go on or wait again."""

    go_on: bool = Field(
        default=True,
        title="Resume now with what there is",
        description="Off = look at the queue, and wait again if it is not done.",
    )


def waiting_for_people(stages: Callable[[], T]) -> T:
    """Run stages; where one awaits people, suspend the run, or go on as a person said.

    Raises:
        AwaitingPeopleError: Answers are missing, and the run has no deployment that could resume
            it.
    """
    token = going_on.set(frozenset())
    try:
        while True:
            try:
                return stages()
            except AwaitingPeopleError as awaiting:
                run_logger().info(
                    "review queue %s: %s", awaiting.queue.name, awaiting.queue.progress
                )
                _suspend(awaiting)
                going_on.set(going_on.get() | {awaiting.queue.name})
    finally:
        going_on.reset(token)


def _suspend(awaiting: AwaitingPeopleError) -> None:
    """Suspend the run; return if an earlier suspension ended with a person's word to go on."""
    if not deployment.id:
        raise awaiting
    queue = awaiting.queue
    form = Resumption.with_initial_data(description=queue.describe())
    _switch_watch(on=True)
    for number in itertools.count(1):
        key = f"{KEY}-{queue.name.rpartition(' ')[2]}-{number}"
        answer = suspend_flow_run(wait_for_input=form, timeout=DAYS * 24 * 3600, key=key)
        if answer.go_on and awaiting.some:
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
