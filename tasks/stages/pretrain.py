"""Pretrain: a model from scratch on the corpus, by what its family learns.

Causal families predict the next token, BERT masked tokens and next sentences, encoder-decoders the
document behind the noise.
"""

from collections.abc import Mapping
from pathlib import Path

from models.families.config import ArchitectureConfig, kind_of
from models.rows import read_json
from models.training.config import PretrainConfig
from tasks.registry.registration import register
from tasks.reports.pretraining import pretraining_page
from tasks.results.cache import token_folder
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace

PACE = "pace.json"
"""Among the checkpoints; see `models.training.account`."""
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
        from models.training.denoising import pretrain_denoising  # these import torch
        from models.training.masked import pretrain_masked
        from models.training.pretraining import pretrain

        data = work.inputs["corpus"]
        run = work.training_run(work.out / "model", pipeline.seed)
        tokenizer = work.inputs["tokenizer"] / "tokenizer"
        corpus, heldout = data / "corpus_train.jsonl", data / "corpus_heldout.jsonl"
        if kind == "causal":
            metrics = work.learn(
                pretrain,
                tokenizer=tokenizer,
                corpus=corpus,
                heldout=heldout,
                architecture=architecture,
                config=config,
                run=run,
                cache=token_folder(work.cache, data, "corpus_", "models.token_files"),
            )
        else:
            metrics = work.learn(
                pretrain_masked if kind == "masked" else pretrain_denoising,
                tokenizer=tokenizer,
                corpus=corpus,
                heldout=heldout,
                architecture=architecture,
                config=config,
                run=run,
            )
        return metrics | _pace(run.checkpoints / PACE)

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
        view=pretraining_page,
    )
    ref = run_stage(spec, pipeline, learn)
    if kind == "causal":
        register(ref, pipeline)
    return ref


def _pace(path: Path) -> dict[str, float]:
    """How fast the training was on this machine; nothing if it only published again."""
    found: dict[str, float] = read_json(path) if path.exists() else {}
    return {f"pretrain/{name}": value for name, value in found.items()}
