"""DPO: the loss against TRL's own trainer and by hand, ties, exact resume, adapters."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from trl import DPOConfig, DPOTrainer

from models.errors import DataError
from models.language.encoded_rows import EncodedRows
from models.language.folders import load_causal_model, load_tokenizer, save_model
from models.preference_shares import PreferenceShare
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training import dpo
from models.training.config import DPOStageConfig
from models.training.dpo import collate_pairs, train_dpo
from tests.models.distributed.processes import in_team

PAIRS = [
    ("the cat", "sat on the mat", "ran home over"),
    ("a dog ran", "home", "the mat and slept all day"),
    ("what is the sum", "it is five", "it is two"),
    ("two and", "three", "the hill"),
    ("over the", "old green hill", "mat"),
    ("slept", "all day", "你好"),
]
CONFIG = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "checkpoint_steps": 2, "beta": 0.3}


def rows(**more: Any) -> list[dict[str, Any]]:
    return [{"prompt": p, "chosen": c, "rejected": r} | more for p, c, r in PAIRS]


@pytest.fixture(scope="module")
def sft(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Any], tokenizer: Any
) -> Path:
    folder = tmp_path_factory.mktemp("dpo") / "sft"
    model = make_network("llama", vocab=len(tokenizer), spread=0.1)
    model.config.pad_token_id = tokenizer.pad_token_id
    save_model(model, tokenizer, folder)
    return folder


def write_files(folder: Path, pairs: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    write_rows(folder / "pairs.jsonl", pairs)
    write_rows(folder / "heldout.jsonl", rows())


def encoded(tokenizer: Any, given: list[dict[str, Any]], folder: Path) -> EncodedRows:
    """The pairs as tokens, as `train_dpo` has them."""
    write_files(folder, given)
    return dpo._encode(tokenizer, folder / "pairs.jsonl", 60, PreferenceShare(), folder / "tokens")


def learn(
    sft: Path,
    folder: Path,
    make_run: Callable[..., Any],
    *,
    kill_at: int | None = None,
    given: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """Train in a folder; with `kill_at` an error strikes when that step is logged."""
    if not folder.joinpath("pairs.jsonl").exists():
        write_files(folder, given or rows())
    logged: dict[int, dict[str, float]] = {}

    def log(metrics: Mapping[str, float], step: int) -> None:
        if step == kill_at:
            raise RuntimeError("killed")
        logged.setdefault(step, {}).update(metrics)

    metrics = train_dpo(
        sft=sft,
        preferences=folder / "pairs.jsonl",
        heldout=folder / "heldout.jsonl",
        config=DPOStageConfig(**CONFIG | changes),
        run=make_run(folder / "model", log=log),
    )
    return metrics, logged


def test_policy_learns_the_pairs_and_starts_at_the_reference(
    sft: Path, tmp_path: Path, make_run: Callable[..., Any]
) -> None:
    metrics, logged = learn(sft, tmp_path, make_run, epochs=10)
    assert logged[1]["dpo/loss"] == pytest.approx(math.log(2), abs=1e-4)  # margins of 0
    assert metrics["dpo/accuracy"] == 1.0
    assert metrics["dpo/heldout_loss"] < 0.3
    assert metrics["dpo/pairs"] == 6.0
    assert logged[15]["dpo/train_accuracy"] == 1.0
    assert logged[15]["dpo/score_margin"] > 1.0
    load_causal_model(tmp_path / "model")


def test_bfloat16_weights_are_compared_with_a_reference_of_theirs(
    sft: Path, tmp_path: Path, make_run: Callable[..., Any]
) -> None:
    """Steps of 1e-12 move nothing, so margins are 0 but for the order of sums, some 1e-6.

    Against a float32 reference they were 5e-3. What is published are the float32 masters, which are
    compared with one.
    """
    rough = {"precision": "bfloat16", "learning_rate": 1e-12, "batch_size": 6}
    metrics, logged = learn(sft, tmp_path, make_run, **rough)
    for step in (1, 2, 3):
        assert logged[step]["dpo/score_margin"] == pytest.approx(0.0, abs=1e-4)
    assert logged[2]["dpo/heldout_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics["dpo/heldout_loss"] == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize("tokens", [20, 10_000])
def test_loss_and_gradient_are_those_of_trl(
    sft: Path, tmp_path: Path, make_run: Callable[..., Any], tokens: int
) -> None:
    """TRL's own trainer on padded rows, with a reference that differs from the policy."""
    tokenizer = load_tokenizer(sft)
    config = DPOStageConfig(**CONFIG | {"tokens_per_microbatch": tokens})
    pairs = encoded(tokenizer, rows(), tmp_path)
    reference = load_causal_model(sft)
    ours, theirs = load_causal_model(sft), load_causal_model(sft)
    with torch.no_grad():
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one += 0.02 * torch.randn(one.shape, generator=torch.Generator().manual_seed(1))
            other.copy_(one)
    run = make_run(tmp_path / "model")
    logprobs = dpo._logprobs(reference, pairs.rows, config, run)
    trainer = dpo._build_trainer(ours, tokenizer, pairs, logprobs, config, run)
    mine = collate_pairs(list(trainer.train_dataset.select(range(4))))
    trainer.create_optimizer()
    loss = trainer.compute_loss(trainer.model, mine)
    loss.backward()
    columns = {"prompt_ids": "prompt", "chosen_ids": "chosen", "rejected_ids": "rejected"}
    batch = trainer.train_dataset.select(range(4))
    other = DPOTrainer(
        model=theirs,
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(tmp_path / "trl"),
            beta=0.3,
            use_cpu=True,
            report_to=[],
            bf16=False,
            max_length=None,
        ),
        train_dataset=Dataset.from_list(rows()),
        processing_class=tokenizer,
    )
    collated = other.data_collator(
        [{name: row[column] for name, column in columns.items()} for row in batch]
    )
    wanted = other.compute_loss(other.model, collated)
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    for one, another in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, another.grad, atol=1e-5, rtol=1e-3)


def test_a_tie_counts_as_both_orders_at_half_weight(
    sft: Path, tmp_path: Path, make_run: Callable[..., Any]
) -> None:
    tokenizer, run = load_tokenizer(sft), make_run(tmp_path / "model")
    config = DPOStageConfig(**CONFIG)
    pairs = encoded(tokenizer, rows(tie=True), tmp_path)
    model = load_causal_model(sft)
    logprobs = dpo._logprobs(model, pairs.rows, config, run)
    logprobs[0] -= torch.arange(6.0)  # as if the reference liked the chosen ones less
    trainer = dpo._build_trainer(model, tokenizer, pairs, logprobs, config, run)
    batch = [row | {"counts": place != 3} for place, row in enumerate(trainer.train_dataset)]
    loss = trainer.compute_loss(trainer.model, collate_pairs(batch[:4])).item()
    wanted = 0.0
    for row in batch[:3]:  # the fourth counts for nothing
        row_number = list(pairs.rows["chosen"]).index(row["chosen"])
        reward = 0.3 * row_number
        wanted += 0.5 * (math.log1p(math.exp(-reward)) + math.log1p(math.exp(reward)))
    assert loss == pytest.approx(wanted / 4, rel=1e-4)
    assert not trainer._metrics["train"]  # of ties there is nothing to be right about


@pytest.mark.parametrize("more", [{}, {"lora": {"rank": 2, "alpha": 4.0}}], ids=["all", "lora"])
def test_resumed_run_equals_the_uninterrupted_one(
    sft: Path, tmp_path: Path, make_run: Callable[..., Any], more: dict[str, Any]
) -> None:
    whole, logged = learn(sft, tmp_path / "whole", make_run, **more)
    with pytest.raises(RuntimeError, match="killed"):
        learn(sft, tmp_path / "torn", make_run, kill_at=4, **more)
    again, resumed = learn(sft, tmp_path / "torn", make_run, **more)
    assert again == whole
    assert min(resumed) >= 2  # from the checkpoint of step 2
    assert all(resumed[step] == logged[step] for step in resumed if step > 2)
    names = ["model", *(["model_adapter"] if more else [])]
    for name in names:
        files = sorted((tmp_path / "whole" / name).glob("*.safetensors"))
        assert files
        for path in files:
            assert path.read_bytes() == (tmp_path / "torn" / name / path.name).read_bytes()
    start = load_file(sft / "model.safetensors")
    end = load_file(tmp_path / "whole" / "model" / "model.safetensors")
    assert any(not torch.equal(start[name], end[name]) for name in start)


def test_pairs_that_are_all_equal_are_refused(
    sft: Path, tmp_path: Path, make_run: Callable[..., Any]
) -> None:
    equal = [row | {"rejected": row["chosen"]} for row in rows()]
    with pytest.raises(DataError, match=r"6 of them with equal completions"):
        learn(sft, tmp_path, make_run, given=equal)


def learn_here(sft: Path, folder: Path) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """`learn` as a member of a team calls it."""

    def run(out: Path, **given: Any) -> TrainingRun:
        return TrainingRun(
            out=out, checkpoints=folder / "checkpoints", seed=0, device="cpu", **given
        )

    return learn(sft, folder, run, tokens_per_microbatch=30)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(sft: Path, tmp_path: Path) -> None:
    alone, curves = learn_here(sft, tmp_path / "alone")
    write_files(tmp_path / "team", rows())
    (together, logged), _ = in_team(2, learn_here, sft, tmp_path / "team", scratch=tmp_path)
    for step, metrics in curves.items():
        for name, value in metrics.items():
            assert logged[step][name] == pytest.approx(value, rel=1e-3, abs=1e-5)
    for name, value in alone.items():
        assert together[name] == pytest.approx(value, rel=1e-3)
