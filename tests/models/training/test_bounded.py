"""Attention bounded by documents: a packed block is worth what its documents are worth alone."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import ModelError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.folders import load_causal_model
from models.language.tokenizer import encode_texts
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training.blocks import corpus_blocks
from models.training.config import PretrainConfig
from models.training.pretraining import _laid_out, pretrain

BLOCK = 16
CONFIG = PretrainConfig(
    steps=6, batch_size=4, block_tokens=BLOCK, checkpoint_steps=3, bounded_documents=True
)


@pytest.mark.parametrize("family", ["llama", "gpt2", "feedforward", "rnn", "lstm"])
def test_loss_of_bounded_blocks_is_that_of_their_documents_alone(
    family: Any, tokenizer: Any, corpus_file: Path
) -> None:
    from models.language.packing import use_packed_attention

    architecture = ArchitectureConfig(family=family, layers=2, width=32, heads=2, context=64)
    model = build_model(architecture, tokenizer, seed=0)
    blocks = corpus_blocks(tokenizer, corpus_file, BLOCK, 0)
    ids = torch.stack([blocks[index] for index in range(6)])
    starts = torch.stack([blocks.starts(index) for index in range(6)])
    # A slow oracle: every part of a block on its own, cut before each EOS; the last token of a
    # part predicts the EOS that begins the next one.
    total, count = 0.0, 0
    for block in ids.tolist():
        cuts = [0, *[at for at in range(1, BLOCK) if block[at] == tokenizer.eos_token_id], BLOCK]
        for begin, end in itertools.pairwise(cuts):
            logits = model(torch.tensor([block[begin:end]])).logits[0].detach().double()
            for at in range(begin + 1, min(end + 1, BLOCK)):
                before = logits[at - 1 - begin]
                total -= float(before[block[at]] - before.logsumexp(0))
                count += 1
    assert count == 6 * (BLOCK - 1)  # nothing is left out but the first token of each block
    assert int(starts.sum()) > 6
    crossing = float(model(input_ids=ids, labels=ids).loss)
    use_packed_attention(model)
    laid_out = _laid_out({"input_ids": ids, "labels": ids, "starts": starts})
    bounded = float(model(**laid_out, num_items_in_batch=count).loss)
    assert bounded == pytest.approx(total / count, rel=1e-6)  # float32
    assert bounded != pytest.approx(crossing, rel=2e-6)


@pytest.fixture
def run(
    tmp_path: Path,
    tokenizer_folder: Path,
    corpus_file: Path,
    tiny_architecture: ArchitectureConfig,
    make_run: Callable[..., TrainingRun],
) -> Any:
    def start(name: str, config: PretrainConfig = CONFIG, **changes: Any) -> dict[str, float]:
        given = {"tokenizer": tokenizer_folder, "corpus": corpus_file, "heldout": corpus_file}
        run = make_run(tmp_path / name, log=changes.pop("log", lambda metrics, step: None))
        given |= {"architecture": tiny_architecture, "config": config} | changes
        return pretrain(**given, run=run)

    return start


def test_bounded_training_resumes_to_equal_bits_in_micro_batches_too(
    run: Any, tmp_path: Path
) -> None:
    whole = run("whole")

    def kill(metrics: Any, step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("killed", log=kill)
    assert run("killed") == whole
    weights = {name: load_causal_model(tmp_path / name).state_dict() for name in ("whole",)}
    run("cut", CONFIG.model_copy(update={"tokens_per_microbatch": 2 * BLOCK}))
    run("crossing", CONFIG.model_copy(update={"bounded_documents": False}))
    weights |= {name: load_causal_model(tmp_path / name).state_dict() for name in ("killed", "cut")}
    other = load_causal_model(tmp_path / "crossing").state_dict()
    for name, one in weights["whole"].items():
        assert torch.equal(one, weights["killed"][name])
        torch.testing.assert_close(weights["cut"][name], one, rtol=1e-3, atol=1e-5)
    assert any(not torch.equal(one, other[name]) for name, one in weights["whole"].items())


def test_held_out_documents_are_measured_alone(run: Any, tmp_path: Path, tokenizer: Any) -> None:
    texts = ["the cat sat.", "", "你好 " * 12]  # the last one fills more than a block
    write_rows(tmp_path / "held.jsonl", [{"text": text} for text in texts])
    metrics = run("a", heldout=tmp_path / "held.jsonl")
    model = load_causal_model(tmp_path / "a")
    total, count = 0.0, 0
    for ids in encode_texts(tokenizer, texts):
        stream = [1, *ids, 1]
        for at in range(1, len(stream)):
            start = (at - 1) // (BLOCK - 1) * (BLOCK - 1)
            logits = model(torch.tensor([stream[start:at]])).logits[0, -1].detach().double()
            total -= float(logits[stream[at]] - logits.logsumexp(0))
            count += 1
    assert metrics["pretrain/heldout_loss"] == pytest.approx(total / count, rel=1e-6)


def test_a_network_without_such_attention_is_refused(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "_supports_attention_backend", False)
    with pytest.raises(ModelError, match="its rows cannot be packed"):
        run("a")
