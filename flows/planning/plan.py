"""What a run will do, before it does anything: its stages, new or reused, and what they cost.

A flow's stages are given as a function of the pipeline run. Called while planning, it only
foretells them (`tasks/run/planning.py`), and whatever it refuses is refused then: before an MLflow
run opens or a stage computes.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefect import Flow

from flows.forms import FlowForm
from flows.lifecycle import opened
from flows.parameters import Parameters, PipelineParameters
from flows.planning.checks import check_stages
from flows.planning.costs import Known
from flows.planning.families import costs_of_families
from flows.planning.needs import scale_of
from flows.planning.rates import (
    REUSE_SECONDS,
    RUN_SECONDS,
    Cost,
    costs_of,
    data_numbers,
    known_of_plan,
)
from flows.planning.tables import memory_table, number
from flows.waiting import waiting_for_people
from models.errors import first_line
from tasks.data.build import build_datasets
from tasks.data.sources import found_files, uses_hub
from tasks.judging.possible import refuse_few_prompts, refuse_impossible, refuse_silent_endpoint
from tasks.reports.reward import explain_endings
from tasks.reports.style import table
from tasks.results.store import StageRef, Store
from tasks.run.overview import overview
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import PlannedStage, planned, planning
from tasks.run.reporting import run_logger
from tasks.run.spec import published_results
from tasks.settings import load_settings
from tasks.stages.adopt import named_folder
from tasks.stages.foundations.config import FoundationsParameters
from tasks.stages.templates import check_rows

MOST_COUNTED_BYTES = 2**23
"""Of own files, packed: what is larger takes too long to be read only for a plan."""

T = TypeVar("T")
Stages = Callable[[PipelineRun], T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run as it will be.

    Attributes:
        costs: Of each stage, in the same order.
        known: What they are computed from.
        findings: Sentences on what reused stages found, and what helps.
    """

    stages: Sequence[PlannedStage]
    costs: Sequence[Cost]
    known: Known
    findings: Sequence[str] = ()

    HEADER = ("stage", "", "tokens", "FLOPs", "memory, GiB", "minutes")

    def rows(self) -> list[tuple[str, ...]]:
        """One a stage, as text; a reused one costs nothing."""
        return [
            (
                stage.spec.name,
                "reused" if stage.reused else "new",
                number(cost.work.tokens if cost.work else None),
                number(cost.flops),
                "" if stage.reused else f"{cost.peak_gib:.2f}",
                _minutes(cost.seconds) if cost.seconds is not None or stage.reused else "?",
            )
            for stage, cost in zip(self.stages, self.costs, strict=True)
        ]

    @property
    def new(self) -> list[str]:
        """The stages that will be computed."""
        return [one.spec.name for one in self.stages if not one.reused]

    @property
    def seconds(self) -> float:
        """Of the whole run; stages of unknown length are left out."""
        reused = REUSE_SECONDS * (len(self.stages) - len(self.new))
        return RUN_SECONDS + reused + sum(one.seconds or 0.0 for one in self.costs)

    @property
    def peak_gib(self) -> float:
        """The most memory that a stage takes; 0 where all are reused."""
        return max((one.peak_gib for one in self.costs), default=0.0)

    def summary(self) -> str:
        """The plan in one line."""
        if not self.new:
            return f"nothing to compute: all {len(self.stages)} stages are reused"
        reused = len(self.stages) - len(self.new)
        unknown = any(
            one.seconds is None and not stage.reused
            for stage, one in zip(self.stages, self.costs, strict=True)
        )
        return (
            f"{reused} stages reused, {len(self.new)} new ({', '.join(self.new)}): "
            f"{'at least' if unknown else 'about'} {_minutes(self.seconds)} minutes, "
            f"{self.peak_gib:.1f} GiB"
        )

    def markdown(self) -> str:
        """Both tables, for the run's page."""
        text = f"{self.summary()}\n\n{table(self.HEADER, self.rows(), text_columns=2)}"
        memory = memory_table(self.known, scale_of(load_settings()), self.new)
        if memory.rows:
            cells = table(memory.header, memory.rows, text_columns=2)
            text += f"\n\n**{memory.title}**\n\n{cells}"
        return "\n\n".join([text, *(f"**{one}**" for one in self.findings)])


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:.1f}"


def make_plan(parameters: Parameters, stages: Stages[object]) -> Plan:
    """Foretell stages; nothing is started, opened or computed.

    Raises:
        QuartetError: Whatever the run would be refused for, as far as it can be known.
    """
    pipeline = PipelineRun(name="plan", preset=parameters.preset, seed=parameters.seed, run_id="")
    with planned() as found:
        stages(pipeline)
    if isinstance(parameters, FoundationsParameters):
        costs = costs_of_families(parameters, found, load_settings())
        known = Known(parameters=parameters.model_dump(mode="json"))
        return Plan(stages=found, costs=costs, known=known)
    check_stages(parameters, {one.spec.name for one in found})
    rows = _count_rows(parameters, found)
    for stage in found:
        if stage.spec.name == "evaluate":
            _check_decision(parameters, stage, rows)
        elif "endpoint" in stage.spec.parameters and not stage.reused:
            refuse_silent_endpoint(parameters.feedback.endpoint, "feedback.endpoint")
    known = Known(parameters=parameters.model_dump(mode="json"))
    try:
        known = known_of_plan(parameters, found, rows, load_settings())
        costs = costs_of(known, found, load_settings())
    except Exception as error:  # whatever an old manifest lacks: a guess must not stop a run
        run_logger().warning("what the run costs is not known (%s)", first_line(error))
        costs = [Cost() for _ in found]
    return Plan(stages=found, costs=costs, known=known, findings=_findings(found))


def _findings(stages: Sequence[PlannedStage]) -> list[str]:
    """What a measured reward model's report says of completions that are cut."""
    store, stage = Store(load_settings().store), "reward-quality"
    refs = [
        StageRef(stage=stage, digest=one.digest)
        for one in stages
        if one.spec.name == stage and one.reused
    ]
    here = [ref for ref in refs if store.folder(stage, ref.digest).is_dir()]
    return [finding for ref in here for finding in explain_endings(published_results(ref))]


def _count_rows(parameters: PipelineParameters, stages: list[PlannedStage]) -> Mapping[str, float]:
    """Rows of the data, as the stage prepare reports them; of small files before it has run.

    Raises:
        DataError: A row of small files cannot be used, by the model's chat template or at all.
    """
    data = next((one for one in stages if one.spec.name == "prepare"), None)
    config = parameters.data
    if data is None or data.reused or config.source == "world" or uses_hub(config):
        return data.metrics if data is not None else {}
    if sum(file.size for file in found_files(config)) > MOST_COUNTED_BYTES:
        return {}
    with tempfile.TemporaryDirectory(prefix="quartet-") as scratch:
        build_datasets(config, parameters.seed, Path(scratch), inspected=False)
        model = _model_folder(parameters, stages)
        if model is not None:
            check_rows(Path(scratch), model, str(model))
        return data_numbers(Path(scratch))


def _model_folder(parameters: PipelineParameters, stages: list[PlannedStage]) -> Path | None:
    """A model that the stages start from, as far as it is here already."""
    store = Store(load_settings().store)
    models = [ref for one in stages for ref in one.spec.inputs.values() if ref.stage != "prepare"]
    folders = (store.folder(ref.stage, ref.digest) for ref in models)
    return next(filter(Path.is_dir, folders), named_folder(parameters.base.source))


def _check_decision(
    parameters: PipelineParameters, evaluation: PlannedStage, rows: Mapping[str, float]
) -> None:
    gold = bool(evaluation.spec.parameters["evaluate"]["gold"])
    config = parameters.evaluate
    refuse_impossible(config, gold=gold, held_out="judge" in evaluation.spec.inputs)
    if "data/prompts_heldout_rows" in rows:
        refuse_few_prompts(int(rows["data/prompts_heldout_rows"]))
    if "endpoint" in (config.judge, *config.judges) and not evaluation.reused:
        refuse_silent_endpoint(config.endpoint, "evaluate.endpoint")


class _Planned(BaseException):
    """Ends a flow's function that is only planned. Not an Exception, so that nothing catches it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


def plan_of(flow: Flow[..., Any], *args: Any, **kwargs: Any) -> Plan:
    """Foretell what a flow would do if it was called like this.

    Raises:
        QuartetError: It would be refused.
    """
    with planned():
        try:
            flow.fn(*args, **kwargs)
        except _Planned as end:
            return end.plan
    raise RuntimeError(f"flow {flow.name} runs no planned stages")


def perform(form: FlowForm, parameters: Parameters, stages: Stages[T]) -> T:
    """Plan the stages of a flow run, show the plan, and run them under an MLflow parent.

    Raises:
        QuartetError: The plan or a stage is refused; a refused plan leaves no MLflow run.
    """
    plan = make_plan(parameters, stages)
    if planning() is not None:
        raise _Planned(plan)
    run_logger().info("plan: %s", plan.markdown() if plan.new else plan.summary())
    seconds = [
        (one.spec.name, 0.0 if one.reused else cost.seconds)
        for one, cost in zip(plan.stages, plan.costs, strict=True)
    ]
    overview().expect(seconds, plan.markdown())
    with opened(form, parameters) as pipeline:
        return waiting_for_people(lambda: stages(pipeline))


def is_foretold(ref: StageRef) -> bool:
    """Whether a stage is only planned, so that there is nothing of it here to look at."""
    store = Store(load_settings().store)
    return planning() is not None and not store.folder(ref.stage, ref.digest).is_dir()
