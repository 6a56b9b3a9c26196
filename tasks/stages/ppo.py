"""PPO: the actor learns from the reward model, held near the SFT model."""

from collections.abc import Mapping

from models.language.config import SamplingConfig
from models.ppo.alarms import raised_alarms
from models.ppo.config import PPOConfig
from tasks.registry.registration import register
from tasks.reports.ppo import ppo_page
from tasks.results.cache import token_folder
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import emit
from tasks.run.rollout_server import rollout_server
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace

PROMPTS = "prompts_train.jsonl"


@stage_task("ppo")
def align(
    config: PPOConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    sft: StageRef,
    reward: StageRef,
) -> StageRef:
    """Publish the aligned policy, a critic if there is one, and watched samples; register it."""

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.ppo.run import train_ppo  # imports torch

        data = work.inputs["prompts"]
        corpus = data / "corpus_train.jsonl"
        with rollout_server(config.rollout_engine == "server") as server:
            return work.learn(
                train_ppo,
                sft=work.inputs["actor"] / "model",
                reward=work.inputs["reward_model"] / "model",
                prompts=data / PROMPTS,
                heldout_prompts=data / "prompts_heldout.jsonl",
                corpus=corpus if corpus.is_file() else None,
                config=config,
                sampling=sampling,
                run=work.training_run(work.out, pipeline.seed),
                cache=token_folder(work.cache, data, "corpus_", "models.token_files"),
                prompts_cache=token_folder(work.cache, data, PROMPTS, "models.ppo.prompts"),
                server=server,
            )

    spec = StageSpec(
        name="ppo",
        module=__name__,
        parameters={
            "ppo": config.model_dump(mode="json"),
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"actor": sft, "reference": sft}
        | ({"critic": reward} if config.uses_critic else {})
        | {"reward_model": reward, "prompts": data},
        total_steps=config.iterations,
        trains=True,
        view=ppo_page,
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, pipeline)
    raised = raised_alarms(ref.metrics)
    if raised and not ref.reused:
        about = {"stage": "ppo", "digest": ref.digest, "pipeline": pipeline.name}
        emit("quartet.alarm", "quartet.stage.ppo", {"alarms": raised, **about})
    return ref
