"""Approval by a person: before PPO, and before a promotion.

The run suspends without holding a process, and Prefect shows the question as a form on the run's
page. After the answer the flow starts from the top; finished stages are reused.
"""

from prefect import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from flows.lifecycle import Cancellation
from tasks.promotion.contest import record_approval
from tasks.promotion.promotion import Answer
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import report_text

DAYS = 30
"""How long a run waits for an answer."""


class Approval(RunInput):
    """The answer."""

    go_on: bool = Field(default=True, title="Approve", description="Off = end the run here.")
    approver: str = Field(title="Your name", min_length=1)
    note: str = Field(default="", title="Note", description="Recorded in MLflow with the run.")


def ask_before_ppo(reward: StageRef, pipeline: PipelineRun) -> None:
    """Wait for approval of the reward model.

    Raises:
        Cancellation: The answer is no.
    """
    answer = _ask(_question(reward), "approval-before-ppo", "before_ppo", pipeline)
    if not answer.go_on:
        note = answer.note or "no note"
        raise Cancellation(f"{answer.approver} ended the run before PPO: {note}")


def ask_before_promotion(challenger: str, evidence: StageRef, pipeline: PipelineRun) -> Answer:
    """Wait for approval of a challenger as champion; a no does not end the run.

    Args:
        challenger: Address of the registered version.
        evidence: The comparison that it passed; each comparison is a question of its own.
        pipeline: The run.
    """
    question = f"**Promote {challenger} to champion?**\n\n{report_text(evidence)}"
    key = f"approval-promotion-{evidence.digest[:12]}"
    answer = _ask(question, key, "promotion", pipeline)
    return Answer(go_on=answer.go_on, by=answer.approver, note=answer.note)


def _ask(question: str, key: str, gate: str, pipeline: PipelineRun) -> Approval:
    """Suspend the run until it is answered, and record the answer."""
    form = Approval.with_initial_data(description=question)
    answer = suspend_flow_run(wait_for_input=form, timeout=DAYS * 24 * 3600, key=key)
    record_approval(pipeline, gate, approved=answer.go_on, by=answer.approver, note=answer.note)
    return answer


def _question(reward: StageRef) -> str:
    """The question with the reward model's metrics."""
    lines = [
        "**Is this reward model good enough for PPO?** Its report is among the run's artifacts.",
        "",
        f"Reward model `{reward.digest[:12]}`:",
        "",
        "| metric | value |",
        "|---|---:|",
    ]
    lines += [f"| {name} | {value:.4g} |" for name, value in sorted(reward.metrics.items())]
    return "\n".join(lines)
