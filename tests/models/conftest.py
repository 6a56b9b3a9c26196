"""A tiny world for the tests of learning: a tokenizer, a base model and rows, made in a second."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.config import TokenizerConfig
from models.language.folders import load_tokenizer, save_model
from models.language.tokenizer import train_tokenizer
from models.rows import write_rows
from models.runtime import TrainingRun
from tests.models.rollouts.served import Served, served, tiny_tokenizer

SENTENCES = [
    "the cat sat on the mat and slept all day",
    "a dog ran home over the old green hill",
    "what is the sum of two and three? it is five.",
    "你好，世界。今天天气很好。",
]


@pytest.fixture(scope="session")
def tiny_architecture() -> ArchitectureConfig:
    return ArchitectureConfig(layers=2, width=32, heads=2, context=64)


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    write_rows(path, [{"text": SENTENCES[i % 4]} for i in range(40)])
    return path


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(corpus=corpus_file, config=TokenizerConfig(vocab_size=320), context=64, out=out)
    return out


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Any:
    return load_tokenizer(tokenizer_folder)


@pytest.fixture(scope="session")
def base_folder(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_architecture: ArchitectureConfig,
    tokenizer: Any,
) -> Path:
    """An untrained model folder; treat it as read-only."""
    out = tmp_path_factory.mktemp("base")
    save_model(build_model(tiny_architecture, tokenizer, seed=0), tokenizer, out)
    return out


@pytest.fixture(scope="session")
def make_run() -> Callable[..., TrainingRun]:
    """A builder of runs on the CPU, with their checkpoints beside the folder of the result."""

    def build(out: Path, **changes: Any) -> TrainingRun:
        given: dict[str, Any] = {"seed": 0, "log": lambda metrics, step: None}
        return TrainingRun(
            out=out,
            checkpoints=out.with_name(f"{out.name}.checkpoints"),
            device="cpu",
            **given | changes,
        )

    return build


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Any]:
    """A builder of untrained networks that know a few tokens; weights are large, so that
    distributions are far from uniform and a mistake moves the numbers."""
    return _make_network


def _make_network(
    family: str,
    *,
    score_head: bool = False,
    vocab: int = 16,
    context: int = 64,
    seed: int = 0,
    spread: float = 0.3,
    dropout: float = 0.0,
    layers: int = 2,
) -> Any:
    sizes: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": context,
        "initializer_range": spread,
        "tie_word_embeddings": True,
        "pad_token_id": None,  # a classifier then reads its score at the last token, always
        "eos_token_id": 1,
        "bos_token_id": None,
        "num_labels": 1,
    }
    if family == "llama":
        config = AutoConfig.for_model(
            "llama", intermediate_size=48, num_key_value_heads=2, attention_dropout=dropout, **sizes
        )
    else:
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        config = AutoConfig.for_model("gpt2", **rates, **sizes)
    head = AutoModelForSequenceClassification if score_head else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return head.from_config(config, dtype=torch.float32).eval()


class Unpadded:
    """What networks say of one row alone: no padding, no neighbours, the models' own forward."""

    @staticmethod
    def distributions(
        model: Any, prompt: Sequence[int], completion: Sequence[int], temperature: float
    ) -> torch.Tensor:
        """Log-probabilities before each completion token, (completion, vocab) float64."""
        logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0].double()
        return (logits[len(prompt) - 1 : -1] / temperature).log_softmax(-1)

    @staticmethod
    def logprobs(
        model: Any, prompt: Sequence[int], completion: Sequence[int], temperature: float
    ) -> torch.Tensor:
        """Log-probability of each completion token, (completion,) float64."""
        rows = Unpadded.distributions(model, prompt, completion, temperature)
        return torch.stack([row[token] for row, token in zip(rows, completion, strict=True)])

    @staticmethod
    def values(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
        """The score of every prefix that ends before a completion token, (completion,) float64."""
        return torch.stack(
            [
                Unpadded.score(model, [*prompt, *completion[:step]])
                for step in range(len(completion))
            ]
        )

    @staticmethod
    def score(model: Any, row: Sequence[int]) -> torch.Tensor:
        """The classifier's own output for the row, () float64."""
        return model(input_ids=torch.tensor([list(row)])).logits[0, 0].double()


@pytest.fixture(scope="session")
def unpadded() -> type[Unpadded]:
    """The slow oracle for everything that networks say about padded rows."""
    return Unpadded


@pytest.fixture(scope="session")
def eight_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of eight tokens, with its tokenizer."""
    out = tmp_path_factory.mktemp("eight") / "model"
    model = _make_network("llama", vocab=8, spread=0.1)
    model.config.pad_token_id = 0
    save_model(model, tiny_tokenizer(), out)
    return out


@pytest.fixture(scope="session")
def rollout_server(eight_words: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`quartet serve` with that model; its weights are whatever a test sent last."""
    with served(eight_words, tmp_path_factory.mktemp("served")) as server:
        yield server
