"""What flows do around their stages: name, time limit, MLflow parent, liveness, approval, end.

For an approval the run suspends without holding a process, and Prefect shows the question as a form
on the run's page. After the answer the flow starts from the top; finished stages are reused.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from prefect import State, suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause, TerminationSignal
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled, Completed
from pydantic import Field

from flows.forms import FlowForm
from flows.names import name_of
from flows.parameters import Parameters, changed_from_preset
from flows.preferences import LearnedPreferences
from models.errors import QuartetError
from tasks.catalogue import entry
from tasks.escaping import for_markdown
from tasks.judging.people import votes_page
from tasks.machine.liveness import announced
from tasks.machine.signals import keep_signals
from tasks.machine.time_limit import time_limit
from tasks.promotion.contest import record_approval
from tasks.promotion.promotion import Answer
from tasks.registry.versions import ModelVersion
from tasks.reports.reward import explain_endings, explain_weaknesses, strength
from tasks.reports.style import table
from tasks.results.store import StageRef
from tasks.run.cards import Card
from tasks.run.faults import faults_explained
from tasks.run.logs import say_causes_once
from tasks.run.overview import shown_overview
from tasks.run.pipeline import PipelineRun, open_pipeline
from tasks.run.reporting import run_logger
from tasks.run.spec import page_key, published_outcome, published_results, report_text
from tasks.settings import load_settings
from tasks.upkeep.reconcile import reconcile

P = ParamSpec("P")
R = TypeVar("R")

PIPELINE = "rlhf-pipeline"
"""Name of the flow of all stages; others run a part of them, or judge what they gave."""


class Cancellation(BaseException):
    """A person ended the run. Not an Exception, so that nothing catches it by accident."""


def name_run() -> str:
    """Name a flow run, with its flow first where that is not the whole pipeline."""
    flow, form = flow_run.flow_name or "", flow_run.parameters.get("run")
    return name_of(
        form,
        flow="" if flow == PIPELINE else flow,
        run_id=str(flow_run.id),
        typed=form.name if form is not None else flow_run.parameters.get("name", ""),
        now=flow_run.name or "",
    )


@contextlib.contextmanager
def opened(form: FlowForm, parameters: Parameters) -> Iterator[PipelineRun]:
    """Open the MLflow parent of a flow run; a replay of the same flow run finds it again.

    Raises:
        Cancellation: The run was cancelled.
        ParameterError: The form does not fit the deployment it was filled in from.
        QuartetError: The tracking server does not answer.
        TimeoutError: The form's time limit has passed; training is saved.
    """
    filled_in: dict[str, Any] = (deployment.parameters or {}).get("run", {})
    form.check_deployment(filled_in)
    for sentence in reconcile(load_settings()):
        run_logger().info(sentence)
    try:
        with (
            time_limit(form.time_limit_hours),
            open_pipeline(
                name=flow_run.name or "pipeline",
                preset=parameters.preset,
                seed=parameters.seed,
                parameters=parameters.model_dump(mode="json"),
                flow_run_id=str(flow_run.id or ""),
                note=form.note,
                kind="pipeline" if flow_run.flow_name == PIPELINE else flow_run.flow_name,
                changed=changed_from_preset(parameters),
            ) as pipeline,
            announced(load_settings(), pipeline.run_id, str(flow_run.id or ""), (Pause,)),
        ):
            yield pipeline
    except TerminationSignal as signal:
        if _is_cancelling():
            raise Cancellation("cancelled; training is saved, a new run resumes it") from signal
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What a run came to, in one line, and whether what it made was rejected."""

    headline: str
    rejected: bool


def concluding(conclude: Callable[[R], Conclusion]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """End a flow with what it came to as its state's message; *Rejected* is a state of its own.

    Whoever calls the flow still gets its result: it is the state's data, which Prefect unpacks.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            result = function(*args, **kwargs)
            end = conclude(result)
            name = "Rejected" if end.rejected else "Completed"
            return cast(R, Completed(name=name, message=end.headline, data=result))

        return run

    return decorate


def conclude_sentence(said: str) -> Conclusion:
    """What a flow returns is what people read."""
    return Conclusion(headline=said, rejected=False)


def conclude_decision(decision: StageRef) -> Conclusion:
    """What a published decision came to."""
    outcome, _ = published_outcome(decision)
    return Conclusion(headline=outcome.headline, rejected=outcome.word == "rejected")


def cancellable(function: Callable[P, R]) -> Callable[P, R | State[Any]]:
    """End a flow as cancelled, not crashed or failed, when a person ended it.

    Its report says how it ended. What is known of foreign errors is raised in one sentence.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        say_causes_once()
        keep_signals()
        with shown_overview() as report:
            try:
                with faults_explained(load_settings()):
                    result = function(*args, **kwargs)
            except Cancellation as end:
                report.end(str(end))
                return Cancelled(message=str(end))
            except Pause:
                report.end("waiting for an answer: the button Resume shows the question")
                raise
            except Exception as error:
                kind = "" if isinstance(error, QuartetError) else f"{type(error).__name__}: "
                report.end(f"failed: {kind}{error}")
                raise
            except BaseException:
                report.end("stopped; training is saved, and a retry resumes it")
                raise
            said = result.message if isinstance(result, State) else None
            report.end(said or "completed", tag=said is not None, done=True)
            return result

    return run


def _is_cancelling() -> bool:
    """Whether this run is being cancelled; training delays signals, so Prefect cannot tell."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(str(flow_run.id))).state
    except Exception:  # whatever keeps the API from answering: then it is an ordinary signal
        return False
    return state is not None and state.is_cancelling()


APPROVAL_DAYS = 30
"""How long a run waits for an answer."""


class Approval(RunInput):
    """A person's answer; fields are called as the form calls them, for messages name them."""

    approve: bool = Field(
        default=True, title="Approve", description="Off = refuse; before PPO this ends the run."
    )
    your_name: str = Field(title="Your name", min_length=1)
    note: str = Field(default="", title="Note", description="Recorded in MLflow with the run.")


def ask_before_ppo(learned: LearnedPreferences, pipeline: PipelineRun) -> None:
    """Wait for approval of the reward model.

    Raises:
        Cancellation: The answer is no.
    """
    page = Card(page_key(learned.quality.stage), "markdown").address()
    more = f" [The whole report]({page})." if page else ""
    results = published_results(learned.quality)
    question = "\n\n".join(
        (
            "**Is this reward model good enough for PPO?**",
            f"{strength(explain_weaknesses(results))}{more}",
            *(f"**{finding}**" for finding in explain_endings(results)),
            table(("measure", "value"), _five_numbers(learned)),
        )
    )
    answer = _ask(question, "approval-before-ppo", "before_ppo", pipeline)
    if not answer.approve:
        note = answer.note or "no note"
        raise Cancellation(f"{answer.your_name} ended the run before PPO: {note}")


def _five_numbers(learned: LearnedPreferences) -> list[tuple[str, str]]:
    metrics = learned.reward.metrics
    accuracy, low, high = (metrics[f"reward/accuracy{end}"] for end in ("", "_low", "_high"))
    rows = [("held-out pair accuracy [95%]", f"{accuracy:.3f} [{low:.3f}, {high:.3f}]")]
    rows += [("rule: the longer one wins", f"{metrics['reward/longer_wins_accuracy']:.3f}")]
    return rows + [
        (one.label, f"{learned.quality.metrics[one.metric]:{one.format}}")
        for one in entry(learned.quality.stage).key_metrics
        if one.metric in learned.quality.metrics
    ]


def ask_before_promotion(
    pipeline: PipelineRun, challenger: ModelVersion, evidence: StageRef, cautions: Sequence[str]
) -> Answer:
    """Wait for approval of a challenger as champion; a no does not end the run.

    Args:
        challenger: The registered version.
        evidence: The comparison that it passed; each comparison is a question of its own.
        cautions: What the person should look at first, in sentences.
    """
    question = f"**Promote {for_markdown(challenger.uri)} to champion?**"
    question += "".join(f"\n\n**{for_markdown(caution)}**" for caution in cautions)
    if page := votes_page(evidence):
        question += f" [How people voted]({page})"
    question += f"\n\n{report_text(evidence)}"
    key = f"approval-promotion-{evidence.digest[:12]}"
    answer = _ask(question, key, "promotion", pipeline)
    return Answer(go_on=answer.approve, by=answer.your_name, note=answer.note)


def _ask(question: str, key: str, gate: str, pipeline: PipelineRun) -> Approval:
    form = Approval.with_initial_data(description=question)
    answer = suspend_flow_run(wait_for_input=form, timeout=APPROVAL_DAYS * 24 * 3600, key=key)
    record_approval(pipeline, gate, approved=answer.approve, by=answer.your_name, note=answer.note)
    return answer
