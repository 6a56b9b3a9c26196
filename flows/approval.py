"""The gate before PPO: the run suspends, no process is held, and goes on or ends on the answer.

Prefect shows the question as a form on the run's page. The flow then starts again from the top;
published stages make that free.
"""

from prefect import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from flows.lifecycle import Ended
from tasks.approval import record_approval
from tasks.pipeline_run import PipelineRun
from tasks.store import StageRef

__all__ = ["Approval", "ask_before_ppo"]

DAYS = 30
"""How long a run waits for its answer."""


class Approval(RunInput):
    """The answer."""

    go_on: bool = Field(default=True, title="Go on", description="Off ends the run here.")
    approver: str = Field(title="Your name", min_length=1)
    note: str = Field(default="", title="Note", description="Recorded with the run in MLflow.")


def ask_before_ppo(reward: StageRef, pipeline: PipelineRun) -> None:
    """Wait for an answer to whether this reward model is good enough to learn from.

    Raises:
        Ended: The answer is no.
    """
    question = Approval.with_initial_data(description=_question(reward))
    answer = suspend_flow_run(
        wait_for_input=question, timeout=DAYS * 24 * 3600, key="approval-before-ppo"
    )
    record_approval(
        pipeline, "before_ppo", approved=answer.go_on, by=answer.approver, note=answer.note
    )
    if not answer.go_on:
        raise Ended(f"{answer.approver} ended the run before PPO: {answer.note or 'no note'}")


def _question(reward: StageRef) -> str:
    """The reward model's figures; the pictures are among the run's artifacts."""
    lines = [
        "**Is this reward model good enough for PPO?** Its report is among the run's artifacts.",
        "",
        f"Reward model `{reward.digest[:12]}`:",
        "",
        "| figure | value |",
        "|---|---:|",
    ]
    lines += [f"| {name} | {value:.4g} |" for name, value in sorted(reward.metrics.items())]
    return "\n".join(lines)
