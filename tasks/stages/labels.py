"""Feedback by people: their labels as pairs, mixed with given preferences."""

from collections.abc import Mapping

from models.errors import DataError
from models.reward.config import FeedbackConfig
from models.rows import read_rows
from tasks.labelling.items import Labels
from tasks.labelling.pairs import pairs_of
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage, stage_task
from tasks.run.workspace import Workspace
from tasks.stages.feedback import write_preferences


@stage_task("feedback")
def learn_from_labels(
    config: FeedbackConfig,
    labels: Labels,
    *,
    ties: bool,
    pipeline: PipelineRun,
    data: StageRef,
    samples: StageRef,
) -> StageRef:
    """Publish the training preferences: those of people, and given ones at the stated share.

    Args:
        labels: What people answered; with their digest they name the result.
        ties: Whether pairs of equal rating count, as both orders at half weight.
        samples: What they were asked.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        annotated, outcomes = pairs_of(labels.rows, ties=ties)
        if not annotated:
            raise DataError(
                f"{len(labels.rows)} labels of people give no pair ({dict(outcomes)}); a pair "
                "needs two completions of one item with different ratings: review more items"
            )
        share = config.annotated_share
        wanted = round(len(annotated) * (1 - share) / share)
        given = read_rows(work.inputs["prompts"] / "preferences_train.jsonl")[:wanted]
        labels.write(work.out)
        raters = sorted({row["rater"] for row in labels.rows})
        about = {
            "wanted": {"given": wanted},
            "annotator": {"annotator": "people", "raters": raters, "labels": len(labels.rows)},
        }
        return write_preferences(work.out, annotated, given, outcomes, about, pipeline.seed)

    spec = StageSpec(
        name="feedback",
        module=__name__,
        parameters={
            "feedback": config.model_dump(mode="json", include={"annotator", "annotated_share"})
            | {"ties": ties}
        },
        inputs={"samples": samples, "prompts": data},
        external={"labels": labels.digest},
    )
    return run_stage(spec, pipeline, learn)
