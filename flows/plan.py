"""What a run will do, before it does anything: its stages, new or reused, and what they cost.

A flow's stages are given as a function of the pipeline run. Called while planning, it only
foretells them (`tasks/run/planning.py`), and whatever it refuses is refused then: before a server
starts, an MLflow run opens or a stage computes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from flows.checks import check_parameters
from flows.forms import StageForm
from flows.lifecycle import opened
from flows.parameters import PipelineParameters
from tasks.reports.style import table
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import PlannedStage, planned, planning
from tasks.run.reporting import run_logger, show_markdown
from tasks.settings import load_settings

T = TypeVar("T")
Stages = Callable[[PipelineRun], T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run as it will be."""

    stages: list[PlannedStage]

    HEADER = ("stage", "", "digest")

    def rows(self) -> list[tuple[str, ...]]:
        """One a stage, as text."""
        return [
            (one.spec.name, "reused" if one.reused else "new", one.digest[:12])
            for one in self.stages
        ]

    def summary(self) -> str:
        """The plan in one line."""
        new = [one.spec.name for one in self.stages if not one.reused]
        if not new:
            return f"nothing to compute: all {len(self.stages)} stages are reused"
        return f"{len(self.stages) - len(new)} stages reused, {len(new)} new: {', '.join(new)}"


def make_plan(parameters: PipelineParameters, stages: Stages[object]) -> Plan:
    """Foretell stages; nothing is started, opened or computed.

    Raises:
        QuartetError: Whatever the run would be refused for, as far as it can be known.
    """
    check_parameters(parameters)
    pipeline = PipelineRun(name="plan", preset=parameters.preset, seed=parameters.seed, run_id="")
    with planned() as found:
        stages(pipeline)
    return Plan(stages=found)


def perform(form: StageForm, parameters: PipelineParameters, stages: Stages[T]) -> T:
    """Plan the stages of a flow run, show the plan, and run them under an MLflow parent.

    Raises:
        QuartetError: The plan or a stage is refused; a refused plan leaves no MLflow run.
    """
    plan = make_plan(parameters, stages)
    run_logger().info("plan: %s", plan.summary())
    show_markdown("plan", f"{plan.summary()}\n\n{table(Plan.HEADER, plan.rows())}", "Plan")
    with opened(form, parameters) as pipeline:
        return stages(pipeline)


def is_foretold(ref: StageRef) -> bool:
    """Whether a stage is only planned, so that there is nothing of it here to look at."""
    store = Store(load_settings().store)
    return planning() is not None and not store.folder(ref.stage, ref.digest).is_dir()
