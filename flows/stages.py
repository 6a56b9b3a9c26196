"""One thin flow a stage, so that each can be triggered and scheduled alone.

Inputs are named as MLflow's `input.*` tags show them: stage/digest, the digest whole or only its
beginning. A flow takes the pipeline's parameters and uses the slice of its stage; run alone or in
the pipeline, the same slice and inputs give the same digest and so the same result.
"""

import contextlib
from collections.abc import Iterator

from prefect import flow
from prefect.runtime import flow_run

from flows.parameters import PipelineParameters
from tasks.evaluate import evaluate
from tasks.feedback import collect_feedback
from tasks.pipeline_run import PipelineRun, open_pipeline
from tasks.ppo import align
from tasks.prepare import prepare
from tasks.pretrain import pretrain
from tasks.reward import train_reward_model
from tasks.settings import load_settings
from tasks.sft import finetune
from tasks.store import StageRef, Store
from tasks.tokenizer import train_tokenizer

__all__ = [
    "evaluate_flow",
    "feedback_flow",
    "ppo_flow",
    "prepare_flow",
    "pretrain_flow",
    "reward_flow",
    "sft_flow",
]


@flow(name="prepare", persist_result=False)
def prepare_flow(parameters: PipelineParameters) -> StageRef:
    """Prepare the datasets."""
    with _alone(parameters) as pipeline:
        return prepare(parameters.data, pipeline=pipeline)


@flow(name="pretrain", persist_result=False)
def pretrain_flow(parameters: PipelineParameters, data: str) -> StageRef:
    """Train a tokenizer and a base model on prepared data."""
    with _alone(parameters) as pipeline:
        corpus = _find(data)
        tokenizer = train_tokenizer(
            parameters.tokenizer, context=parameters.model.context, pipeline=pipeline, data=corpus
        )
        return pretrain(
            parameters.pretrain,
            parameters.model,
            pipeline=pipeline,
            data=corpus,
            tokenizer=tokenizer,
        )


@flow(name="sft", persist_result=False)
def sft_flow(parameters: PipelineParameters, data: str, base: str) -> StageRef:
    """Fine-tune a base model on prepared demonstrations."""
    with _alone(parameters) as pipeline:
        return finetune(parameters.sft, pipeline=pipeline, data=_find(data), base=_find(base))


@flow(name="feedback", persist_result=False)
def feedback_flow(parameters: PipelineParameters, data: str, sft: str) -> StageRef:
    """Have an SFT model's completions compared."""
    with _alone(parameters) as pipeline:
        return collect_feedback(
            parameters.feedback,
            parameters.sampling,
            shuffle=parameters.data.world.shuffle_preferences,
            pipeline=pipeline,
            data=_find(data),
            sft=_find(sft),
        )


@flow(name="reward", persist_result=False)
def reward_flow(parameters: PipelineParameters, data: str, preferences: str, sft: str) -> StageRef:
    """Train a reward model on preferences, from the SFT model."""
    with _alone(parameters) as pipeline:
        return train_reward_model(
            parameters.reward,
            parameters.sampling,
            pipeline=pipeline,
            data=_find(data),
            preferences=_find(preferences),
            sft=_find(sft),
        )


@flow(name="ppo", persist_result=False)
def ppo_flow(parameters: PipelineParameters, data: str, sft: str, reward: str) -> StageRef:
    """Align an SFT model with a reward model by PPO."""
    with _alone(parameters) as pipeline:
        return align(
            parameters.ppo,
            parameters.sampling,
            pipeline=pipeline,
            data=_find(data),
            sft=_find(sft),
            reward=_find(reward),
        )


@flow(name="evaluate", persist_result=False)
def evaluate_flow(
    parameters: PipelineParameters, data: str, base: str, sft: str, reward: str, ppo: str
) -> StageRef:
    """Compare a policy with its SFT model and judge it."""
    with _alone(parameters) as pipeline:
        return evaluate(
            parameters.evaluate,
            parameters.sampling,
            gold=parameters.data.source == "world",
            pipeline=pipeline,
            data=_find(data),
            base=_find(base),
            sft=_find(sft),
            reward=_find(reward),
            ppo=_find(ppo),
        )


@contextlib.contextmanager
def _alone(parameters: PipelineParameters) -> Iterator[PipelineRun]:
    """Open the parent run of a stage that runs by itself."""
    with open_pipeline(
        name=flow_run.name or "stage",
        preset=parameters.preset,
        seed=parameters.seed,
        parameters=parameters.model_dump(mode="json"),
    ) as pipeline:
        yield pipeline


def _find(name: str) -> StageRef:
    return Store(load_settings().store).resolve(name)
