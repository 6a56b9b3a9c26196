"""Foundations: every model of a run side by side, and which published claims held."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.rows import write_json
from tasks.reports.foundations.page import RESULTS, foundations_page
from tasks.results.store import Manifest, StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.stages.foundations.checking import check_claims, count_verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One row of the report.

    Attributes:
        part: Of the report: language, understanding, translation, noise, in_context, selection.
        name: Of the model, such as gpt2.
        task: Which it was tuned on; empty for language models.
        variant: What is special about it, such as random weights.
        ref: The stage that made or measured it.
    """

    part: str
    name: str
    ref: StageRef
    task: str = ""
    variant: str = ""

    @property
    def role(self) -> str:
        """What the claims know it by, such as gpt2-entailment-random."""
        return "-".join(word for word in (self.name, self.task, self.variant) if word)


@stage_task("foundations")
def conclude(models: Sequence[Model], *, pipeline: PipelineRun) -> StageRef:
    """Publish all numbers in one table with the claims that they check."""

    def learn(work: Workspace) -> Mapping[str, float]:
        manifests = {one.role: Manifest.read(work.inputs[one.role]) for one in models}
        metrics = {role: manifest.metrics for role, manifest in manifests.items()}
        rows = [
            {
                "role": one.role,
                "part": one.part,
                "name": one.name,
                "task": one.task,
                "variant": one.variant,
                "seconds": manifests[one.role].seconds,
                "metrics": metrics[one.role],
            }
            for one in models
        ]
        claims = check_claims(metrics, work.inputs)
        write_json(work.out / RESULTS, {"models": rows, "claims": claims})
        return {"foundations/models": float(len(rows)), **count_verdicts(claims)}

    spec = StageSpec(
        name="foundations",
        module=__name__,
        parameters={"models": [[one.part, one.name, one.task, one.variant] for one in models]},
        inputs={one.role: one.ref for one in models},
        view=foundations_page,
    )
    return run_stage(spec, pipeline, learn)
