"""The pipeline on one screen: from data to an evaluated policy.

Each step is a tracked task that takes its part of the parameters and references to published
stages, and returns a reference. Tasks are called directly, never submitted: in a thread neither
cancel nor timeout would reach the training.
"""

import time
from dataclasses import dataclass

from prefect import flow
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict

from flows.forms import RunForm
from flows.lifecycle import (
    PIPELINE,
    Conclusion,
    ask_before_ppo,
    cancellable,
    conclude_decision,
    concluding,
    name_run,
)
from flows.parameters import PipelineParameters
from flows.planning.plan import is_foretold, perform
from flows.preferences import LearnedPreferences, learn_preferences
from tasks.registry.verdicts import record_verdict
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import planning
from tasks.run.reporting import run_logger
from tasks.run.spec import published_outcome
from tasks.stages.alternatives.best_of_n import learn_best_of_n
from tasks.stages.alternatives.dpo import learn_directly
from tasks.stages.evaluate import evaluate
from tasks.stages.ppo import align
from tasks.stages.prepare import prepare
from tasks.stages.pretrain import pretrain
from tasks.stages.resolve import find_model
from tasks.stages.reward_quality import refuse_weak
from tasks.stages.sft import finetune
from tasks.stages.templates import check_template
from tasks.stages.tokenizer import train_tokenizer


class PipelineResult(BaseModel):
    """The result of a pipeline run.

    Attributes:
        pipeline_run_id: Prefect's flow run.
        mlflow_run_id: The MLflow parent run.
        name: Of the run, in both.
        stages: In order of execution.
        final: The evaluation's metrics, `final/*`.
        verdict: In a word or two.
        reasons: Of the verdict, as sentences.
        seconds: Wall time of the flow.
        samples: Prompts with completions of the SFT model and the policy.
    """

    model_config = ConfigDict(frozen=True)

    pipeline_run_id: str
    mlflow_run_id: str
    name: str
    stages: list[StageRef]
    final: dict[str, float]
    accepted: bool
    verdict: str
    reasons: list[str]
    seconds: float
    samples: list[dict[str, str | float]]


def _conclude(result: PipelineResult) -> Conclusion:
    return conclude_decision(result.stages[-1])


@flow(name=PIPELINE, flow_run_name=name_run, persist_result=False)
@cancellable
@concluding(_conclude)
def rlhf_pipeline(run: RunForm) -> PipelineResult:
    """Pretrain, fine-tune, train a reward model on preferences, run PPO, and evaluate.

    A run that was stopped or failed resumes when it is retried or started again with the same
    parameters; finished stages are reused.
    """
    started = time.monotonic()
    parameters = run.to_parameters()
    pipeline, stages = perform(
        run,
        parameters,
        lambda pipeline: (pipeline, _run_stages(parameters, pipeline, ask=run.approval)),
    )
    outcome, samples = published_outcome(stages[-1])
    if all(stage.reused for stage in stages):
        run_logger().info("nothing new: all %d stages were reused", len(stages))
    return PipelineResult(
        pipeline_run_id=str(flow_run.id or ""),
        mlflow_run_id=pipeline.run_id,
        name=pipeline.name,
        stages=stages,
        final=stages[-1].metrics,
        accepted=outcome.accepted,
        verdict=outcome.word,
        reasons=outcome.reasons,
        seconds=time.monotonic() - started,
        samples=samples,
    )


def _run_stages(
    parameters: PipelineParameters, pipeline: PipelineRun, *, ask: bool
) -> list[StageRef]:
    """Run, or while planning foretell, every stage in order."""
    p = parameters
    origin = make_sft_model(p, pipeline)
    learned = learn_preferences(p, pipeline, data=origin.data, sft=origin.sft)
    if not is_foretold(learned.quality):
        refuse_weak(learned.quality, p.reward_quality)
    if ask and not planning():
        ask_before_ppo(learned, pipeline)
    policy = make_policy(p, pipeline, data=origin.data, start=origin.sft, learned=learned)
    evaluation = judge_policy(p, pipeline, origin, learned, policy)
    return [*origin.stages, *learned.stages, policy, evaluation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What alignment starts from: the data, the base model, the SFT model, and all in order."""

    data: StageRef
    base: StageRef
    sft: StageRef
    stages: list[StageRef]


def make_sft_model(p: PipelineParameters, pipeline: PipelineRun) -> Origin:
    """Prepare the data, pretrain or find the base model, and fine-tune it."""
    data = prepare(p.data, corpus=p.needs_corpus, pipeline=pipeline)
    stages = [data]
    if p.base.source:
        base = find_model(p.base.name, role="base", pipeline=pipeline, adapter=p.base.adapter)
        check_template(data, base)
    else:
        tokenizer = train_tokenizer(
            p.tokenizer, context=p.model.context, pipeline=pipeline, data=data
        )
        check_template(data, tokenizer)
        base = pretrain(p.pretrain, p.model, pipeline=pipeline, data=data, tokenizer=tokenizer)
        stages.append(tokenizer)
    sft = finetune(p.sft, pipeline=pipeline, data=data, base=base)
    return Origin(data=data, base=base, sft=sft, stages=[*stages, base, sft])


def make_policy(
    p: PipelineParameters,
    pipeline: PipelineRun,
    *,
    data: StageRef,
    start: StageRef,
    learned: LearnedPreferences,
) -> StageRef:
    """Align a model in the way that `align` says; it is the reference of the KL too."""
    if p.align == "dpo":
        return learn_directly(
            p.dpo,
            judge_share=p.reward.judge_share,
            pipeline=pipeline,
            data=data,
            preferences=learned.preferences,
            sft=start,
        )
    if p.align == "best_of_n":
        return learn_best_of_n(
            p.best_of_n,
            p.sft,
            p.sampling,
            pipeline=pipeline,
            data=data,
            sft=start,
            reward=learned.reward,
        )
    return align(p.ppo, p.sampling, pipeline=pipeline, data=data, sft=start, reward=learned.reward)


def judge_policy(
    p: PipelineParameters,
    pipeline: PipelineRun,
    origin: Origin,
    learned: LearnedPreferences,
    policy: StageRef,
) -> StageRef:
    """Compare a policy with the SFT model, and let the registry tell of the verdict."""
    evaluation = evaluate(
        p.evaluate,
        p.sampling,
        gold=p.data.source == "world",
        pipeline=pipeline,
        data=origin.data,
        base=origin.base,
        sft=origin.sft,
        reward=learned.reward,
        ppo=policy,
        judge=learned.judge,
    )
    record_verdict(policy)  # also of one that is reused: a kill may have kept it from the registry
    return evaluation
