"""Untrained models of every family with a tokenizer of a few words, and a task to learn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.heads.config import HeadConfig
from models.heads.formats import Task
from models.heads.training import learn_to_understand
from models.language.folders import save_model
from models.rows import write_rows
from models.runtime import TrainingRun

WORDS = (
    "[PAD]",
    "[EOS]",
    "[CLS]",
    "[SEP]",
    "[UNK]",
    "a",
    "red",
    "blue",
    "cat",
    "dog",
    "bird",
    "sat",
)
PAD, EOS, CLS, SEP, UNK, A, RED, BLUE, CAT, DOG, BIRD, SAT = range(len(WORDS))

ENTAILMENT = Task(name="entailment", kind="classification", labels=("neutral", "same", "other"))
SIMILARITY = Task(name="similarity", kind="regression")
CHOICE = Task(name="choice", kind="choice")


@pytest.fixture(scope="session")
def words() -> Any:
    """A tokenizer of whole words, with all special tokens but BOS."""
    backend = Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]", eos_token="[EOS]", cls_token="[CLS]", sep_token="[SEP]",
        unk_token="[UNK]",
    )  # fmt: skip


@pytest.fixture(scope="session")
def trunk(tmp_path_factory: pytest.TempPathFactory, words: Any) -> Callable[[str], Path]:
    """A maker of untrained model folders by family; treat them as read-only."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            out = tmp_path_factory.mktemp(family) / "model"
            config = ArchitectureConfig(family=family, layers=1, width=16, heads=2, context=24)  # type: ignore[arg-type]
            model = build_model(config, words, seed=3)
            with torch.no_grad():  # decoders learn such tasks in fewer steps from larger weights
                for weight in model.parameters():
                    weight.mul_(5.0 if family in ("gpt2", "llama") and weight.dim() == 2 else 1.0)
            save_model(model, words, out)
            made[family] = out
        return made[family]

    return make


@pytest.fixture
def understand(
    trunk: Callable[[str], Path], tmp_path: Path
) -> Callable[..., tuple[dict[str, float], Path]]:
    """A maker of published folders: family, task, rows and fields of the config."""

    def learn(
        family: str, task: Task, rows: list[dict[str, Any]], *, name: str = "one", **fields: Any
    ) -> tuple[dict[str, float], Path]:
        path = tmp_path / "rows.jsonl"
        write_rows(path, rows)
        given = {"epochs": 3.0, "batch_size": 8, "learning_rate": 1e-2, "checkpoint_steps": 4}
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        metrics = learn_to_understand(
            base=trunk(family),
            learned=path,
            heldout=path,
            task=task,
            config=HeadConfig(**given | fields),
            run=TrainingRun(
                out=folder,
                checkpoints=tmp_path / f"{name}.checkpoints",
                seed=5,
                device="cpu",
                log=lambda metrics, step: None,
            ),
        )
        return metrics, folder

    return learn


def pairs() -> list[dict[str, Any]]:
    """Twenty-seven pairs: 2 where the second text has the bird, else 1 where the first is red."""
    animals = ["cat", "dog", "bird"]
    return [
        {
            "texts": [f"a {colour} {first}", f"a {second}"],
            "label": 2 if second == "bird" else int("red" in colour),
        }
        for first in animals
        for second in animals
        for colour in ("red", "blue", "red blue")
    ]
