"""The loop: rounds of labels on what the newest policy says, a reward model, and a new policy.

Each round samples from the best policy so far, adds its labels to those of the rounds before,
trains the reward model on all of them, aligns, evaluates, and puts an accepted policy up for
promotion. What a round does is what the pipeline does, by the same functions; the first round of a
loop is the pipeline's own run.

Source: Ouyang et al., Training language models to follow instructions with human feedback (2022),
section 3.1; Touvron et al., Llama 2 (2023), section 3.2.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Literal

from prefect import flow
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field

from flows.forms import RunForm
from flows.lifecycle import (
    Conclusion,
    ask_before_promotion,
    cancellable,
    concluding,
    name_run,
)
from flows.parameters import PipelineParameters
from flows.pipeline import Origin, judge_policy, make_policies, make_sft_model
from flows.planning.plan import is_foretold, perform
from flows.preferences import LearnedPreferences, learn_preferences
from models.errors import ParameterError, WeakRewardError
from tasks.comparison.rounds import Promoted, Round, record_rounds
from tasks.promotion.promotion import Promotion, promote
from tasks.promotion.rounds import promote_once
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import run_logger
from tasks.run.spec import published_outcome
from tasks.stages.reward_quality import refuse_weak


class ImproveForm(RunForm):
    """Parameters of a loop: the pipeline's, and how its rounds go on."""

    rounds: int = Field(ge=1, le=20, title="Rounds")
    """Each adds as many labels as the first."""
    start: Literal["sft", "newest"] = Field(title="Align from")
    """sft: the SFT model, in every round; newest: the policy of the last accepted round, to which
    the KL is then held too."""
    promotion: bool = Field(title="Promote accepted policies")
    """Put each accepted policy up against the champion."""
    approval: bool = Field(title="Ask before promotion")
    """Pause before each promotion until somebody approves."""

    @classmethod
    def of(cls, preset: str, further: Sequence[str] = ()) -> "ImproveForm":
        """Fill the form in; how rounds go on does not depend on the preset."""
        values = RunForm.of(preset, further).model_dump(mode="json")
        return cls.model_validate({**values, "rounds": 3, "start": "sft", "promotion": True})


class ImproveResult(BaseModel):
    """What a loop came to.

    Attributes:
        rounds: In their order.
        stages: Of all rounds, in order of execution.
        seconds: Wall time of the flow.
    """

    model_config = ConfigDict(frozen=True)

    pipeline_run_id: str
    mlflow_run_id: str
    name: str
    rounds: list[Round]
    stages: list[StageRef]
    seconds: float


def _conclude(result: ImproveResult) -> Conclusion:
    outcomes = [published_outcome(one.evaluation)[0] for one in result.rounds]
    accepted = sum(one.accepted for one in outcomes)
    return Conclusion(
        headline=f"{accepted} of {len(outcomes)} rounds accepted, last: {outcomes[-1].headline}",
        rejected=not accepted,
    )


@flow(name="improve", flow_run_name=name_run, persist_result=False)
@cancellable
@concluding(_conclude)
def improve(run: ImproveForm) -> ImproveResult:
    """Collect labels on the newest policy, learn from all labels so far, and align, in rounds.

    A loop that was stopped or failed resumes when it is retried or started again with the same
    parameters; finished stages are reused.
    """
    started = time.monotonic()
    p = run.to_parameters()
    _check(run, p)
    pipeline, rounds, stages = perform(
        run, p, lambda pipeline: (pipeline, *_run_rounds(run, p, pipeline))
    )
    if all(stage.reused for stage in stages):
        run_logger().info("nothing new: all %d stages were reused", len(stages))
    return ImproveResult(
        pipeline_run_id=str(flow_run.id or ""),
        mlflow_run_id=pipeline.run_id,
        name=pipeline.name,
        rounds=rounds,
        stages=stages,
        seconds=time.monotonic() - started,
    )


def _check(run: ImproveForm, p: PipelineParameters) -> None:
    """Refuse rounds that could not be run to their end.

    Raises:
        ParameterError: Nobody labels, chooses prompts, or could judge a promotion.
    """
    if p.feedback.annotator == "none":
        raise ParameterError(
            "feedback.annotator is none, so no round would add a label; set it to people, "
            "endpoint or simulated"
        )
    if p.feedback.choose == "disagreement" and not p.reward.judge_share:
        raise ParameterError(
            "feedback.choose is disagreement, which needs two reward models, and "
            "reward.judge_share is 0; set it to 0.3, say, or feedback.choose=random"
        )
    trained = p.evaluate.judge in ("auto", "judge") and p.data.source != "world"
    if run.promotion and trained and not p.reward.judge_share:
        raise ParameterError(
            "promotion needs a judge that training never used, and reward.judge_share is 0; set "
            "reward.judge_share=0.3, say, or evaluate.judge, or switch promotion off"
        )


def _run_rounds(
    run: ImproveForm, p: PipelineParameters, pipeline: PipelineRun
) -> tuple[list[Round], list[StageRef]]:
    """Run, or while planning foretell, every stage of every round."""
    origin = make_sft_model(p, pipeline)
    stages, learned, rounds = [*origin.stages], list[LearnedPreferences](), list[Round]()
    best: Round | None = None
    for number in range(1, run.rounds + 1):
        named = pipeline.model_copy(update={"name": f"{pipeline.name} round {number}"})
        sampler = origin.sft if best is None else best.policy
        learned.append(
            learn_preferences(
                p, named, data=origin.data, sft=origin.sft, newest=sampler, before=learned
            )
        )
        stages += learned[-1].stages
        if (weak := _weakness(learned[-1], p)) is not None:
            if number == run.rounds and not rounds:
                raise weak
            run_logger().warning("round %d makes no policy, its labels stay: %s", number, weak)
            continue
        start = origin.sft if run.start == "sft" else sampler
        policies = make_policies(p, named, data=origin.data, start=start, learned=learned[-1])
        policy = policies[-1]
        evaluation = judge_policy(p, named, origin, learned[-1], policy)
        # One that does not exist yet is planned as accepted, for so the loop goes on.
        accepted = is_foretold(evaluation) or published_outcome(evaluation)[0].accepted
        done = Round(
            number=number,
            sampled_by=0 if best is None else best.number,
            preferences=learned[-1].preferences,
            policy=policy,
            evaluation=evaluation,
            promoted=_promote(run, p, named, origin, policy) if accepted else "",
        )
        rounds.append(done)
        best = done if accepted else best
        record = record_rounds(rounds, pipeline=named)
        stages += [*policies, evaluation, record]
    return rounds, stages


def _weakness(learned: LearnedPreferences, p: PipelineParameters) -> WeakRewardError | None:
    """Why nothing should be aligned to a reward model; None where something should."""
    try:
        if not is_foretold(learned.quality):
            refuse_weak(learned.quality, p.reward_quality)
    except WeakRewardError as weak:
        return weak
    return None


def _promote(
    run: ImproveForm, p: PipelineParameters, pipeline: PipelineRun, origin: Origin, policy: StageRef
) -> Promoted:
    if not run.promotion:
        return ""

    def put_up(uri: str) -> Promotion:
        return promote(
            uri,
            p.evaluate,
            p.sampling,
            pipeline=pipeline,
            data=lambda: origin.data,
            ask=partial(ask_before_promotion, pipeline) if run.approval else None,
        )

    return promote_once(policy, pipeline, put_up)
