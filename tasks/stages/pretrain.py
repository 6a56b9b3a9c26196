"""Pretrain: a model from scratch on the corpus, by what its family learns.

Causal families predict the next token, BERT masked tokens and next sentences, encoder-decoders the
document behind the noise.
"""

from collections.abc import Mapping

from models.families.config import ArchitectureConfig, kind_of
from models.training.config import PretrainConfig
from tasks.registry.registration import register
from tasks.reports.pretraining import reconstruction_page
from tasks.results.cache import token_folder
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage, stage_task
from tasks.run.workspace import Workspace

OBJECTIVES = {"causal": "", "masked": "masking", "seq2seq": "denoising"}
"""The group of `PretrainConfig` that a kind of family reads; the others are no part of a result."""


@stage_task("pretrain")
def pretrain(
    config: PretrainConfig,
    architecture: ArchitectureConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    tokenizer: StageRef,
) -> StageRef:
    """Publish a pretrained model; register it as a base model if it predicts the next token."""
    kind = kind_of(architecture.family)

    def learn(work: Workspace) -> Mapping[str, float]:
        data = work.inputs["corpus"]
        run = work.training_run(work.out / "model", pipeline.seed)
        if kind == "causal":
            from models.training.pretraining import pretrain  # imports torch

            return work.learn(
                pretrain,
                tokenizer=work.inputs["tokenizer"] / "tokenizer",
                corpus=data / "corpus_train.jsonl",
                heldout=data / "corpus_heldout.jsonl",
                architecture=architecture,
                config=config,
                run=run,
                cache=token_folder(work.cache, data, "corpus_"),
            )
        from models.training.denoising import pretrain_denoising
        from models.training.masked import pretrain_masked

        return work.learn(
            pretrain_masked if kind == "masked" else pretrain_denoising,
            tokenizer=work.inputs["tokenizer"] / "tokenizer",
            corpus=data / "corpus_train.jsonl",
            heldout=data / "corpus_heldout.jsonl",
            architecture=architecture,
            config=config,
            run=run,
        )

    unread = set(OBJECTIVES.values()) - {OBJECTIVES[kind]}
    spec = StageSpec(
        name="pretrain",
        module=__name__,
        parameters={
            "pretrain": config.model_dump(mode="json", exclude=unread),
            "model": architecture.model_dump(mode="json"),
        },
        inputs={"corpus": data, "tokenizer": tokenizer},
        total_steps=config.steps,
        trains=True,
        view=None if kind == "causal" else reconstruction_page,
    )
    ref = run_stage(spec, pipeline, learn)
    if kind == "causal":
        register(ref, pipeline)
    return ref
