"""Feedback by people: their labels as pairs, mixed with given preferences."""

from collections.abc import Mapping

from models.errors import DataError
from models.reward.config import FeedbackConfig
from models.rows import read_rows
from tasks.labelling.agreement import labels_by_rater, measure_agreement
from tasks.labelling.items import Labels
from tasks.labelling.pairs import pairs_of
from tasks.reports.feedback import feedback_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import planning
from tasks.run.reporting import run_logger
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.stages.feedback import write_preferences

COUNTS = {"annotator", "annotated_share", "without_raters"}
"""The fields that shape the result; the others are for people, or in their labels."""


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

    Raises:
        ParameterError: A rater who is to be left out labelled nothing.
    """

    kept = labels.without(config.left_out) if planning() is None else labels

    def learn(work: Workspace) -> Mapping[str, float]:
        annotated, outcomes = pairs_of(kept.rows, ties=ties)
        if not annotated:
            raise DataError(
                f"{len(kept.rows)} labels of people give no pair ({dict(outcomes)}); a pair "
                "needs two completions of one item with different ratings: review more items"
            )
        share = config.annotated_share
        wanted = round(len(annotated) * (1 - share) / share)
        given = read_rows(work.inputs["prompts"] / "preferences_train.jsonl")[:wanted]
        kept.write(work.out)
        found = measure_agreement(kept.rows)
        for one in found.far_off:
            run_logger().warning(
                "rater %s ranks %.0f%% of the pairs as others do, who agree more by %s; look at "
                "these labels, and leave them out by feedback.without_raters",
                one.rater, 100 * one.alike, one.difference,
            )  # fmt: skip
        about = {
            "wanted": {"given": wanted},
            "annotator": {
                "annotator": "people",
                "raters": sorted(kept.raters),
                "labels": len(kept.rows),
            },
            "raters": labels_by_rater(labels, config.left_out),
            "agreement": found,
        }
        numbers = write_preferences(work.out, annotated, given, outcomes, about, pipeline.seed)
        return numbers | (found.overall.metrics() if found.overall else {})

    spec = StageSpec(
        name="feedback",
        module=__name__,
        parameters={"feedback": config.model_dump(mode="json", include=COUNTS) | {"ties": ties}},
        inputs={"samples": samples, "prompts": data},
        external={"labels": kept.digest},
        view=feedback_page,
    )
    return run_stage(spec, pipeline, learn)
