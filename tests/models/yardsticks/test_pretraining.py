"""Yardsticks go through pretraining as Transformers do, and are measured as exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.families.config import ArchitectureConfig
from models.language.folders import load_causal_model, load_tokenizer
from models.rows import read_rows
from models.runtime import TrainingRun
from models.training.config import PretrainConfig
from models.training.pretraining import pretrain


@pytest.mark.parametrize("family", ["feedforward", "rnn", "lstm"])
def test_pretraining_learns_and_predicts_each_token_once(
    tokenizer_folder: Path,
    corpus_file: Path,
    tmp_path: Path,
    make_run: Callable[..., TrainingRun],
    family: Any,
) -> None:
    sizes = ArchitectureConfig(family=family, layers=1, width=32, heads=2, context=16)
    metrics = pretrain(
        tokenizer=tokenizer_folder, corpus=corpus_file, heldout=corpus_file, architecture=sizes,
        config=PretrainConfig(steps=30, batch_size=8, block_tokens=16, learning_rate=1e-2),
        run=make_run(tmp_path / "model"),
    )  # fmt: skip
    model, encoder = load_causal_model(tmp_path / "model"), load_tokenizer(tmp_path / "model")
    stream = [encoder.eos_token_id]
    for row in read_rows(corpus_file):
        stream += [*encoder(row["text"], add_special_tokens=False)["input_ids"], stream[0]]
    total = 0.0
    for start in range(0, len(stream) - 1, 15):  # blocks of 16 that share one token
        block = stream[start : start + 16]
        logprobs = model(torch.tensor([block])).logits[0].double().log_softmax(-1)
        total -= sum(logprobs[at, block[at + 1]].item() for at in range(len(block) - 1))
    assert metrics["pretrain/heldout_loss"] == pytest.approx(total / (len(stream) - 1), rel=1e-5)
    assert metrics["pretrain/heldout_loss"] < 3.5  # nats; a unigram model stays near 5
