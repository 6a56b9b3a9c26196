"""Sequence-to-sequence training: its loss against a loop, resuming, starting points, learning."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, MarianConfig, MarianMTModel

from models.errors import DataError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.folders import load_seq2seq_model, save_model
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training.setup import GuardedTrainer
from models.translation.config import DecodingConfig, TranslationConfig
from models.translation.decoding import translate_texts
from models.translation.samples import translate_rows
from models.translation.training import collate_pairs, read_pairs, target_loss, train_translator

PAIRS = [
    ("the cat sat", "le chat dort"),
    ("a dog ran home over the hill", "un chien court"),
    ("two and three", "deux et trois"),
    ("the old green hill", "la colline"),
    ("it is five", "cinq"),
]
SIZES = {"layers": 1, "width": 64, "heads": 2, "context": 32}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_rows(path, [{"source": source, "target": target} for source, target in PAIRS])
    return path


def architecture(family: Any) -> ArchitectureConfig:
    return ArchitectureConfig(family=family, **SIZES)


def make(family: str, tokenizer: Any) -> Any:
    """Networks of transformers as well as our own."""
    if family in ("rnn_encoder_decoder", "rnnsearch"):
        return build_model(architecture(family), tokenizer, seed=1)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "d_model": 32, "dropout": 0.0}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 64}
    sizes |= {"max_position_embeddings": 32, "pad_token_id": tokenizer.pad_token_id}
    sizes |= {"eos_token_id": 1, "bos_token_id": None, "decoder_start_token_id": 1}
    bart = family == "bart"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        kind: Any = BartForConditionalGeneration if bart else MarianMTModel
        return kind((BartConfig if bart else MarianConfig)(**sizes)).eval()


def test_batch_by_hand() -> None:
    rows = [{"input_ids": [7, 8, 1], "labels": [9, 1]}, {"input_ids": [7, 1], "labels": [5, 6, 1]}]
    batch = collate_pairs(rows, pad=0, first=1)
    assert batch["input_ids"].tolist() == [[7, 8, 1], [7, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[9, 1, -100], [5, 6, 1]]
    assert batch["decoder_input_ids"].tolist() == [[1, 9, 1], [1, 5, 6]]


@pytest.mark.parametrize("family", ["bart", "transformer", "rnn_encoder_decoder", "rnnsearch"])
def test_loss_is_that_of_each_row_alone(tokenizer: Any, pairs: Path, family: str) -> None:
    model = make(family, tokenizer)
    encoded, _ = read_pairs(tokenizer, pairs, 32)
    smoothing, wanted, vocab = 0.2, 0.0, len(tokenizer)
    for source, target in zip(encoded.sources, encoded.targets, strict=True):
        given = torch.tensor([[1, *target[:-1]]])
        logits = model(input_ids=torch.tensor([source]), decoder_input_ids=given).logits[0]
        for row, token in zip(logits.double().log_softmax(-1), target, strict=True):
            wanted -= (1 - smoothing) * row[token].item() + smoothing / vocab * row.sum().item()
    rows = [
        {"input_ids": source, "labels": target}
        for source, target in zip(encoded.sources, encoded.targets, strict=True)
    ]
    batch = collate_pairs(rows, pad=tokenizer.pad_token_id, first=1)
    assert target_loss(model, batch, smoothing).item() == pytest.approx(wanted, rel=1e-5)


def published(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_run_that_died_resumes_to_the_same_bytes(
    tokenizer_folder: Path,
    pairs: Path,
    tmp_path: Path,
    make_run: Callable[..., TrainingRun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = TranslationConfig(steps=9, batch_size=4, checkpoint_steps=3, tokens_per_microbatch=48)

    def learn(name: str) -> dict[str, float]:
        run = make_run(tmp_path / name, seed=5)
        given: dict[str, Any] = {"start": tokenizer_folder, "pairs": pairs, "heldout": pairs}
        given |= {"architecture": architecture("rnnsearch"), "config": config, "run": run}
        return train_translator(**given)

    whole = learn("whole")
    step = GuardedTrainer.training_step

    def die(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 7:
            raise RuntimeError("died")
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(GuardedTrainer, "training_step", die)
        with pytest.raises(RuntimeError, match="died"):
            learn("cut")
    assert learn("cut") == whole
    assert published(tmp_path / "cut") == published(tmp_path / "whole")


@pytest.mark.parametrize("family", ["rnn_encoder_decoder", "rnnsearch"])
def test_pairs_are_learned_by_heart(
    tokenizer_folder: Path,
    pairs: Path,
    tmp_path: Path,
    make_run: Callable[..., TrainingRun],
    family: str,
) -> None:
    config = TranslationConfig(steps=90, batch_size=5, learning_rate=1e-2, label_smoothing=0.0)
    metrics = train_translator(
        start=tokenizer_folder, pairs=pairs, heldout=pairs, architecture=architecture(family),
        config=config, run=make_run(tmp_path / "model"),
    )  # fmt: skip
    assert metrics["translate/heldout_loss"] < 0.1
    found = translate_rows(
        model=tmp_path / "model", heldout=pairs, config=config, seed=0, device="cpu"
    )
    assert [(row["source"], row["translation"]) for row in found.rows] == PAIRS
    assert len(found.alignments) == (4 if family == "rnnsearch" else 0)


@pytest.mark.parametrize("family", ["bart", "transformer"])
def test_base_is_learned_from_its_weights_or_from_random_ones(
    tokenizer: Any,
    pairs: Path,
    tmp_path: Path,
    make_run: Callable[..., TrainingRun],
    family: str,
) -> None:
    base = make(family, tokenizer)
    save_model(base, tokenizer, tmp_path / "base")
    before = {}
    for initial in ("pretrained", "random"):
        config = TranslationConfig(steps=1, batch_size=6, learning_rate=1e-9, initial=initial)
        train_translator(
            start=tmp_path / "base", pairs=pairs, heldout=pairs, architecture=None,
            config=config, run=make_run(tmp_path / initial),
        )  # fmt: skip
        model = load_seq2seq_model(tmp_path / initial)
        assert type(model) is type(base)
        before[initial] = model.model.shared.weight
    assert torch.allclose(before["pretrained"], base.model.shared.weight, atol=1e-6)
    assert (before["random"] - base.model.shared.weight).abs().max() > 1e-3
    made = translate_texts(model, tokenizer, ["the cat"], DecodingConfig(max_tokens=5), seed=0)
    assert len(made) == 1


def test_too_long_pairs_are_left_out(tokenizer: Any, pairs: Path) -> None:
    kept, dropped = read_pairs(tokenizer, pairs, 14)
    assert dropped
    assert len(kept) + dropped == len(PAIRS)
    assert max(map(len, kept.sources + kept.targets)) <= 14
    with pytest.raises(DataError, match="none of them with at most 2 tokens"):
        read_pairs(tokenizer, pairs, 2)
