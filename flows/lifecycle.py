"""What every flow does around its stages: name, time limit, MLflow parent, liveness."""

import contextlib
import datetime
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import State
from prefect.client.orchestration import get_client
from prefect.exceptions import TerminationSignal
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled

from flows.forms import StageForm
from flows.parameters import PipelineParameters
from tasks.machine.liveness import announced
from tasks.machine.time_limit import time_limit
from tasks.run.pipeline import PipelineRun, open_pipeline
from tasks.settings import load_settings

P = ParamSpec("P")
R = TypeVar("R")


class Cancellation(BaseException):
    """A person ended the run. Not an Exception, so that nothing catches it by accident."""


def name_run() -> str:
    """Name a flow run after its form: preset, time and the beginning of the run's id.

    A stage that runs alone is named first; the id separates runs started in the same second. A run
    that is retried, or resumed after its approval, keeps its name.
    """
    if re.search(r"-\d{8}-\d{6}-[0-9a-f]{4}$", flow_run.name or ""):
        return str(flow_run.name)
    form: Any = flow_run.parameters["run"]
    preset = form["preset"] if isinstance(form, dict) else form.preset
    stage = "" if flow_run.flow_name == "rlhf-pipeline" else f"{flow_run.flow_name}-"
    return f"{stage}{preset}-{datetime.datetime.now():%Y%m%d-%H%M%S}-{str(flow_run.id)[:4]}"


@contextlib.contextmanager
def opened(form: StageForm, parameters: PipelineParameters) -> Iterator[PipelineRun]:
    """Open the MLflow parent of a flow run; a replay of the same flow run finds it again.

    Raises:
        Cancellation: The run was cancelled.
        ParameterError: The form does not fit the deployment it was filled in from.
        QuartetError: The tracking server does not answer.
        TimeoutError: The form's time limit has passed; training is saved.
    """
    filled_in: dict[str, Any] = (deployment.parameters or {}).get("run", {})
    form.check_deployment(filled_in)
    try:
        with (
            time_limit(form.time_limit_hours),
            open_pipeline(
                name=flow_run.name or "pipeline",
                preset=parameters.preset,
                seed=parameters.seed,
                parameters=parameters.model_dump(mode="json"),
                flow_run_id=str(flow_run.id or ""),
            ) as pipeline,
            announced(load_settings(), pipeline.run_id, str(flow_run.id or "")),
        ):
            yield pipeline
    except TerminationSignal as signal:
        if _is_cancelling():
            raise Cancellation("cancelled; training is saved, a new run resumes it") from signal
        raise


def cancellable(function: Callable[P, R]) -> Callable[P, R | State[Any]]:
    """End a flow as cancelled, not crashed or failed, when a person ended it."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        try:
            return function(*args, **kwargs)
        except Cancellation as end:
            return Cancelled(message=str(end))

    return run


def _is_cancelling() -> bool:
    """Whether this run is being cancelled; training delays signals, so Prefect cannot tell."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(str(flow_run.id))).state
    except Exception:  # whatever keeps the API from answering: then it is an ordinary signal
        return False
    return state is not None and state.is_cancelling()
