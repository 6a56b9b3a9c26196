"""Pretrain: a base model from scratch by next-token prediction on the corpus."""

from collections.abc import Mapping

from models.families.config import ArchitectureConfig
from models.training.config import PretrainConfig
from tasks.registry.registration import register
from tasks.results.cache import token_folder
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage, stage_task
from tasks.run.workspace import Workspace


@stage_task("pretrain")
def pretrain(
    config: PretrainConfig,
    architecture: ArchitectureConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    tokenizer: StageRef,
) -> StageRef:
    """Publish and register a base model."""

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.training.pretraining import pretrain  # imports torch

        data = work.inputs["corpus"]
        return work.learn(
            pretrain,
            tokenizer=work.inputs["tokenizer"] / "tokenizer",
            corpus=data / "corpus_train.jsonl",
            heldout=data / "corpus_heldout.jsonl",
            architecture=architecture,
            config=config,
            run=work.training_run(work.out / "model", pipeline.seed),
            cache=token_folder(work.cache, data, "corpus_"),
        )

    spec = StageSpec(
        name="pretrain",
        module=__name__,
        parameters={
            "pretrain": config.model_dump(mode="json"),
            "model": architecture.model_dump(mode="json"),
        },
        inputs={"corpus": data, "tokenizer": tokenizer},
        total_steps=config.steps,
        trains=True,
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, pipeline)
    return ref
