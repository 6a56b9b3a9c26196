"""DPO: the policy learns from the reward model's own pairs, without the reward model."""

from collections.abc import Mapping

from models.preference_shares import PreferenceShare
from models.training.config import DPOStageConfig
from tasks.registry.registration import register
from tasks.results.cache import token_folder
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import steps_to_learn
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.stages.reward import TRAINING_ROWS


@stage_task("dpo")
def learn_directly(
    config: DPOStageConfig,
    *,
    judge_share: float,
    pipeline: PipelineRun,
    data: StageRef,
    preferences: StageRef,
    sft: StageRef,
) -> StageRef:
    """Publish the policy; register it.

    Args:
        judge_share: Of the preferences, kept for the held-out reward model.
        preferences: The stage with the training pairs, `data` itself or feedback.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.training.dpo import train_dpo  # imports TRL

        return work.learn(
            train_dpo,
            sft=work.inputs["reference"] / "model",
            preferences=work.inputs["preferences"] / TRAINING_ROWS,
            heldout=work.inputs["heldout"] / "preferences_heldout.jsonl",
            config=config,
            run=work.training_run(work.out / "model", pipeline.seed),
            share=PreferenceShare(judge_share=judge_share, seed=pipeline.seed),
            cache=token_folder(
                work.cache, work.inputs["preferences"], TRAINING_ROWS, "models.training.dpo"
            ),
        )

    spec = StageSpec(
        name="dpo",
        module=__name__,
        parameters={"dpo": config.model_dump(mode="json") | {"judge_share": judge_share}},
        inputs={"reference": sft, "preferences": preferences, "heldout": data},
        trains=True,
        total_steps=steps_to_learn(
            Store(load_settings().store).folder(preferences.stage, preferences.digest)
            / TRAINING_ROWS,
            epochs=config.epochs * (1.0 - judge_share),
            batch_size=config.batch_size,
        ),
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, pipeline)
    return ref
