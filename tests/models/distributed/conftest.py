"""What the stages that learn in teams are given."""

from pathlib import Path
from typing import Any

import pytest

from models.families.config import ArchitectureConfig
from models.heads.config import HeadConfig
from models.heads.formats import Task
from models.language.config import SamplingConfig
from models.reward.config import RewardStageConfig
from models.rows import write_rows
from models.training.config import PretrainConfig, SFTStageConfig
from tests.models.conftest import SENTENCES
from tests.models.distributed.learning import TRAINER, WORDS
from tests.models.objectives.tiny import make_tokenizer


@pytest.fixture(scope="module")
def given(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer_folder: Path,
    base_folder: Path,
    corpus_file: Path,
    tiny_architecture: ArchitectureConfig,
) -> dict[str, dict[str, Any]]:
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(
        rows,
        [
            {
                "prompt": f"the {WORDS[at % 11]}",
                "completion": " on the mat" * (1 + at % 3),
                "chosen": " ran home" * (1 + at % 4),
                "rejected": f" slept {at} days",
                "margin": 0.5 * (at % 2) * (at % 4 != 1),
                "tie": at % 4 == 1,
                "texts": [f"the {WORDS[at % 11]}", " ran home" * (1 + at % 4)],
                "label": at % 3,
            }
            for at in range(16)  # of five prompts two
        ],
    )
    sampling = SamplingConfig(max_completion_tokens=4)
    make_tokenizer(SENTENCES).save_pretrained(rows.with_name("masking"))
    pretraining: dict[str, Any] = {
        "tokenizer": tokenizer_folder,
        "corpus": corpus_file,
        "heldout": corpus_file,
        "architecture": tiny_architecture,
        "config": PretrainConfig(steps=5, block_tokens=16, **TRAINER),
    }
    restoring = {
        stage: {
            **pretraining,
            "tokenizer": rows.with_name("masking"),
            "architecture": tiny_architecture.model_copy(update={"family": family}),
        }
        for stage, family in (("masked", "bert"), ("denoising", "bart"))
    }
    return {
        "pretrain": pretraining,
        **restoring,
        "sft": {
            "base": base_folder,
            "demonstrations": rows,
            "heldout": rows,
            "config": SFTStageConfig(epochs=21 / 16, **TRAINER),  # 5 steps, the last of one row
        },
        "reward": {
            "sft": base_folder,
            "preferences": rows,
            "heldout": rows,
            "prompts": rows,
            "contrasts": None,
            "sampling": sampling,
            "config": RewardStageConfig(
                epochs=21 / 11, batch_element="prompt", moment_samples=16, **TRAINER
            ),
        },
        "understand": {
            "base": base_folder,
            "learned": rows,
            "heldout": rows,
            "task": Task(name="entailment", kind="classification", labels=("a", "b", "c")),
            "config": HeadConfig(
                epochs=21 / 16, auxiliary_weight=0.5, tokens_per_microbatch=40, **TRAINER
            ),
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("team")
