"""One flow per stage, so that each can be triggered and scheduled alone.

A model is a published stage (`sft/3fa81c2b`: whole digest or its beginning, as in MLflow's tags), a
registered model (`quickstart-sft`, `models:/quickstart-sft/3`), a folder, or a hub id; it is
checked before training. The preset gives the data. Alone or in the pipeline, the same parameters
and inputs give the same digest and so the same result.
"""

from typing import Literal

from prefect import flow

from flows.forms import PPOForm, StageForm
from flows.lifecycle import cancellable, conclude_decision, concluding, name_run
from flows.planning.plan import perform
from flows.preferences import learn_preferences
from models.errors import ParameterError
from tasks.registry.origins import open_origin
from tasks.registry.verdicts import record_verdict
from tasks.results.store import StageRef
from tasks.run.exchange import open_input
from tasks.run.pipeline import PipelineRun
from tasks.stages.evaluate import evaluate
from tasks.stages.ppo import align
from tasks.stages.prepare import prepare
from tasks.stages.pretrain import pretrain
from tasks.stages.resolve import find_model
from tasks.stages.sft import finetune
from tasks.stages.templates import check_template
from tasks.stages.tokenizer import train_tokenizer


@flow(name="pretrain", flow_run_name=name_run, persist_result=False)
@cancellable
def pretrain_flow(run: StageForm) -> StageRef:
    """Prepare the data, and train a tokenizer and a base model on it."""
    p = run.to_parameters()

    def stages(pipeline: PipelineRun) -> StageRef:
        data = prepare(p.data, corpus=True, pipeline=pipeline)
        tokenizer = train_tokenizer(
            p.tokenizer, context=p.model.context, pipeline=pipeline, data=data
        )
        return pretrain(p.pretrain, p.model, pipeline=pipeline, data=data, tokenizer=tokenizer)

    return perform(run, p, stages)


@flow(name="sft", flow_run_name=name_run, persist_result=False)
@cancellable
def sft_flow(base: str, run: StageForm) -> StageRef:
    """Fine-tune a base model on demonstrations.

    Args:
        base: The base model: pretrain/DIGEST, a registered model, a folder, or a hub id.
        run: Preset and settings.
    """
    p = run.to_parameters()

    def stages(pipeline: PipelineRun) -> StageRef:
        model = find_model(base, role="base", pipeline=pipeline)
        data = prepare(p.data, pipeline=pipeline)
        check_template(data, model)
        return finetune(p.sft, pipeline=pipeline, data=data, base=model)

    return perform(run, p, stages)


@flow(name="reward", flow_run_name=name_run, persist_result=False)
@cancellable
def reward_flow(sft: str, run: StageForm) -> StageRef:
    """Train and measure a reward model for an SFT model, with feedback if the preset has it.

    Args:
        sft: The SFT model: sft/DIGEST, a registered model, a folder, or a hub id.
        run: Preset and settings.
    """
    p = run.to_parameters()

    def stages(pipeline: PipelineRun) -> StageRef:
        model = find_model(sft, role="sft", pipeline=pipeline)
        data = prepare(p.data, pipeline=pipeline)
        check_template(data, model)
        return learn_preferences(p, pipeline, data=data, sft=model).reward

    return perform(run, p, stages)


@flow(name="ppo", flow_run_name=name_run, persist_result=False)
@cancellable
def ppo_flow(sft: str, reward: str, run: PPOForm) -> StageRef:
    """Optimise an SFT model against a reward model by PPO.

    Args:
        sft: The SFT model: sft/DIGEST, a registered model, a folder, or a hub id.
        reward: The reward model: reward/DIGEST, a registered model, a folder, or a hub id.
        run: Preset and settings.
    """
    p = run.to_parameters()

    def stages(pipeline: PipelineRun) -> StageRef:
        actor = find_model(sft, role="sft", pipeline=pipeline)
        reward_model = find_model(reward, role="reward", pipeline=pipeline)
        data = prepare(p.data, corpus=p.ppo.ptx_coef > 0, pipeline=pipeline)
        check_template(data, actor)
        return align(
            p.ppo,
            p.sampling,
            pipeline=pipeline,
            data=data,
            sft=actor,
            reward=reward_model,
        )

    return perform(run, p, stages)


@flow(name="evaluate", flow_run_name=name_run, persist_result=False)
@cancellable
@concluding(conclude_decision)
def evaluate_flow(
    policy: str, run: StageForm, sft: str = "", reward: str = "", judge: str = ""
) -> StageRef:
    """Compare a policy with its SFT model on held-out prompts and give the verdict.

    Args:
        policy: The policy: ppo/DIGEST, a registered model, a folder, or a hub id.
        run: Preset and settings.
        sft: The SFT model; empty = the one that the policy was trained from.
        reward: The reward model; empty = the one that the policy was trained with.
        judge: Held-out reward model, trained on other preferences; empty = none.
    """
    p = run.to_parameters()

    def stages(pipeline: PipelineRun) -> StageRef:
        ppo = find_model(policy, role="policy", pipeline=pipeline)
        reference = _given_or_origin("sft", sft, ppo, pipeline)
        data = prepare(p.data, pipeline=pipeline)
        check_template(data, ppo)
        evaluation = evaluate(
            p.evaluate,
            p.sampling,
            gold=p.data.source == "world",
            pipeline=pipeline,
            data=data,
            base=open_input(reference, "base"),
            sft=reference,
            reward=_given_or_origin("reward", reward, ppo, pipeline),
            ppo=ppo,
            judge=find_model(judge, role="judge", pipeline=pipeline) if judge else None,
        )
        record_verdict(ppo)
        return evaluation

    return perform(run, p, stages)


def _given_or_origin(
    role: Literal["sft", "reward"], name: str, policy: StageRef, pipeline: PipelineRun
) -> StageRef:
    """The named model, else the one that the policy was trained from or with.

    Raises:
        ParameterError: None is named and the policy's origin is unknown.
    """
    if name:
        return find_model(name, role=role, pipeline=pipeline)
    origin = open_origin(policy, "reference" if role == "sft" else "reward_model")
    if origin is None:
        raise ParameterError(
            f"{role} is empty and policy {policy.stage}/{policy.digest[:12]} does not say which "
            f"{role} model it was trained with; name one, such as {role}/DIGEST"
        )
    return origin
