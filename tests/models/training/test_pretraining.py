"""Pretraining: learns, is exact to the bit, resumes exactly, refuses what cannot work."""

import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from models.checkpoints import latest
from models.errors import DataError, DivergedError, ParameterError
from models.families.config import ArchitectureConfig
from models.language.folders import load_causal_model
from models.language.tokenizer import encode_texts
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training.config import PretrainConfig
from models.training.pretraining import pretrain

CONFIG = PretrainConfig(
    steps=7, batch_size=4, block_tokens=16, learning_rate=5e-3, checkpoint_steps=2
)

RUN = {"seed", "log"}


@pytest.fixture
def run(
    tmp_path: Path,
    tokenizer_folder: Path,
    corpus_file: Path,
    tiny_architecture: ArchitectureConfig,
    make_run: Callable[..., TrainingRun],
) -> Any:
    def start(name: str = "a", config: PretrainConfig = CONFIG, **changes: Any) -> Any:
        settings: dict[str, Any] = {
            "tokenizer": tokenizer_folder,
            "corpus": corpus_file,
            "heldout": corpus_file,
            "architecture": tiny_architecture,
            "config": config,
        }
        run = make_run(tmp_path / name, **{key: changes.pop(key) for key in RUN & changes.keys()})
        return pretrain(**settings | changes, run=run)

    return start


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


class Killed(BaseException):
    """Ends a run as a signal would: no handler of errors catches it."""


def _kill_at(step_to_die: int) -> Any:
    def log(metrics: Mapping[str, float], step: int) -> None:
        if step == step_to_die:
            raise Killed

    return log


def test_pretraining_learns_and_reports(run: Any, tmp_path: Path) -> None:
    seen: dict[int, dict[str, float]] = {}
    metrics = run(log=lambda found, step: seen.setdefault(step, {}).update(found))
    assert sorted(seen) == list(range(1, 8))
    # Warm-up takes round(0.05 * 7) = 0 steps; the first step runs at the peak, the last is logged
    # one step before the end of the cosine.
    assert seen[1]["pretrain/learning_rate"] == pytest.approx(5e-3)
    assert 0.1 * 5e-3 < seen[7]["pretrain/learning_rate"] < 0.2 * 5e-3
    assert seen[7]["pretrain/loss"] < seen[1]["pretrain/loss"]
    assert [step for step in seen if "pretrain/heldout_loss" in seen[step]] == [2, 4, 6, 7]
    assert seen[7]["pretrain/heldout_loss"] == metrics["pretrain/heldout_loss"]
    assert metrics["pretrain/tokens"] == 7 * 4 * 16
    assert metrics["pretrain/perplexity"] == pytest.approx(
        math.exp(metrics["pretrain/heldout_loss"])
    )
    assert load_causal_model(tmp_path / "a").config.use_cache


def test_held_out_loss_predicts_every_token_once(run: Any, tmp_path: Path, tokenizer: Any) -> None:
    text = "the cat sat. 你好 " * 6
    write_rows(tmp_path / "held.jsonl", [{"text": text}])
    metrics = run(heldout=tmp_path / "held.jsonl")
    model = load_causal_model(tmp_path / "a")
    [ids] = encode_texts(tokenizer, [text])
    stream = [1, *ids, 1]
    assert len(stream) > 3 * 16
    total = 0.0
    for at in range(1, len(stream)):
        # Blocks of 16 overlap by one: token t is predicted in block (t - 1) // 15.
        start = (at - 1) // 15 * 15
        logits = model(torch.tensor([stream[start:at]])).logits[0, -1].detach().double()
        total -= float(logits[stream[at]] - logits.logsumexp(0))
    assert metrics["pretrain/heldout_loss"] == pytest.approx(total / (len(stream) - 1), rel=1e-6)
    byte_count = len(text.encode())
    assert metrics["pretrain/bits_per_byte"] == pytest.approx(
        total / math.log(2) / byte_count, rel=1e-6
    )


def test_equal_seeds_give_equal_bits_and_others_do_not(run: Any, tmp_path: Path) -> None:
    assert run("a") == run("b")
    run("c", seed=1)
    assert _weights(tmp_path / "a") == _weights(tmp_path / "b") != _weights(tmp_path / "c")


@pytest.mark.parametrize("most_tokens", [32, 1], ids=["two blocks each", "one each"])
def test_microbatches_move_the_weights_as_the_batch_does(
    run: Any, tmp_path: Path, most_tokens: int
) -> None:
    logged: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    for name, tokens in ("a", CONFIG.tokens_per_microbatch), ("b", most_tokens):
        config = CONFIG.model_copy(update={"tokens_per_microbatch": tokens})
        run(name, config, log=lambda found, _, name=name: logged[name].append(dict(found)))
    for whole, cut in zip(logged["a"], logged["b"], strict=True):
        assert cut == pytest.approx(whole, rel=1e-5)
    whole, cut = (load_causal_model(tmp_path / name).state_dict() for name in ("a", "b"))
    assert any(not torch.equal(whole[name], cut[name]) for name in whole)  # they were cut
    for name in whole:  # seven steps of AdamW, which divides by the gradient's own size
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-3, atol=1e-5)


def test_first_weights_come_from_the_seed(run: Any, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 1, "learning_rate": 1e-12, "weight_decay": 0.0})
    run("a", config, seed=0)
    run("b", config, seed=1)
    first, second = (
        load_causal_model(tmp_path / name).get_input_embeddings().weight for name in ("a", "b")
    )
    # The step moves nothing; two draws with deviation 0.02 differ by 0.02 * sqrt(2) = 0.028.
    assert float((first - second).detach().std()) == pytest.approx(0.028, rel=0.05)


def test_killed_run_resumes_to_equal_bits(run: Any, tmp_path: Path) -> None:
    run("whole")
    with pytest.raises(Killed):
        run("broken", log=_kill_at(5))
    kept = tmp_path / "broken.checkpoints"
    assert latest(kept) == kept / "checkpoint-4"
    torn = kept / "checkpoint-5"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    steps: list[int] = []
    run("broken", log=lambda metrics, step: steps.append(step))
    assert min(steps) == 5  # and not from the start
    assert _weights(tmp_path / "broken") == _weights(tmp_path / "whole")


def test_finished_run_only_publishes_again(run: Any, tmp_path: Path) -> None:
    first = run("a")
    weights = _weights(tmp_path / "a")
    assert run("a") == first
    assert _weights(tmp_path / "a") == weights


def test_gpt2_trains_too(run: Any, tmp_path: Path) -> None:
    config = ArchitectureConfig(family="gpt2", layers=1, width=16, heads=2, context=32)
    run(architecture=config)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["model_type"] == "gpt2"


def test_loss_that_is_not_finite_stops_after_saving_the_state_before(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = LlamaForCausalLM.forward
    calls = 0

    @functools.wraps(forward)
    def breaks_at_the_fourth(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        output = forward(self, *args, **kwargs)
        if calls == 4:
            output.loss = output.loss * float("nan")
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", breaks_at_the_fourth)
    with pytest.raises(DivergedError, match=r"nan .* at step 4, .*'loss': .*checkpoint-3"):
        run("broken")
    assert latest(tmp_path / "broken.checkpoints") == (
        tmp_path / "broken.checkpoints" / "checkpoint-3"
    )
    monkeypatch.undo()
    run("broken")
    run("whole")
    assert _weights(tmp_path / "broken") == _weights(tmp_path / "whole")


def test_gradient_broken_at_once_is_reported_again_on_resume(run: Any, tmp_path: Path) -> None:
    # Weights of 1e20 overflow in the norms' squares: the loss stays finite, its gradient does not.
    config = CONFIG.model_copy(update={"learning_rate": 1e20})
    for _ in range(2):  # the second run resumes from what the first has left
        with pytest.raises(DivergedError, match=r"norm nan at step 2, .*checkpoint-1"):
            run(config=config)
    assert latest(tmp_path / "a.checkpoints") == tmp_path / "a.checkpoints" / "checkpoint-1"


def test_blocks_longer_than_the_context_are_refused(run: Any) -> None:
    config = CONFIG.model_copy(update={"block_tokens": 65})
    with pytest.raises(ParameterError, match="block_tokens 65 exceeds the context 64"):
        run(config=config)


def test_corpus_smaller_than_a_block_is_refused(run: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "small.jsonl", [{"text": "the cat"}])
    with pytest.raises(DataError, match="wanted at least one block of 16"):
        run(corpus=tmp_path / "small.jsonl")


def test_empty_held_out_set_is_refused(run: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(DataError, match="held-out documents were wanted"):
        run(heldout=tmp_path / "empty.jsonl")
