"""Where a run asks a person: it suspends, no process is held, and goes on or ends on the answer.

Before PPO, whether the reward model is good enough; before a promotion, whether a policy that
passed every gate may become champion.

Prefect shows the question as a form on the run's page. The flow then starts again from the top;
published stages make that free.
"""

from prefect import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from flows.lifecycle import Ended
from tasks.promotion.approval import record_approval
from tasks.promotion.promotion import Answer
from tasks.results.store import StageRef
from tasks.run.page import report_text
from tasks.run.pipeline import PipelineRun

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
    answer = _ask(_question(reward), "approval-before-ppo", "before_ppo", pipeline)
    if not answer.go_on:
        raise Ended(f"{answer.approver} ended the run before PPO: {answer.note or 'no note'}")


def ask_before_promotion(challenger: str, evidence: StageRef, pipeline: PipelineRun) -> Answer:
    """Wait for an answer to whether a challenger may become champion; a no ends nothing.

    Args:
        challenger: Address of the registered version.
        evidence: The comparison that it passed; another comparison is another question.
        pipeline: The run.
    """
    question = f"**May {challenger} become champion?**\n\n{report_text(evidence)}"
    key = f"approval-promotion-{evidence.digest[:12]}"
    answer = _ask(question, key, "promotion", pipeline)
    return Answer(go_on=answer.go_on, by=answer.approver, note=answer.note)


def _ask(question: str, key: str, gate: str, pipeline: PipelineRun) -> Approval:
    """Suspend the run until somebody answers, and record the answer."""
    form = Approval.with_initial_data(description=question)
    answer = suspend_flow_run(wait_for_input=form, timeout=DAYS * 24 * 3600, key=key)
    record_approval(pipeline, gate, approved=answer.go_on, by=answer.approver, note=answer.note)
    return answer


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
