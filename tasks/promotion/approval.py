"""What people answered at a gate, recorded with the pipeline's MLflow run."""

from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking.client import Tracker, tolerated


def record_approval(
    pipeline: PipelineRun, gate: str, *, approved: bool, by: str, note: str
) -> None:
    """Write an answer into the tags of a pipeline's run.

    Args:
        pipeline: The run.
        gate: Which question it was, `before_ppo` or `promotion`.
        approved: The answer.
        by: Who gave it.
        note: Why.
    """
    answer = "approved" if approved else "refused"
    with tolerated(f"the approval {gate}"):
        Tracker(load_settings()).set_tags(
            pipeline.run_id,
            {
                f"approval.{gate}": answer,
                f"approval.{gate}.by": by,
                f"approval.{gate}.note": note,
            },
        )
