"""SFT: the loss covers completion and EOS only, long rows keep their answer, resume is exact."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from models.checkpoints import latest
from models.errors import DataError, ModelError
from models.language.examples import encode_demonstrations
from models.language.folders import load_causal_model
from models.language.tokenizer import encode_completion, encode_prompt
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training.config import SFTStageConfig
from models.training.sft import _build_trainer, _encode_rows, finetune

CONFIG = SFTStageConfig(batch_size=4, epochs=2.0, learning_rate=5e-3, checkpoint_steps=2)
STRINGS = [
    {"prompt": f"the cat {word}", "completion": " on the mat" * (1 + at % 3)}
    for at, word in enumerate(["sat", "ran", "slept", "is", "and", "over", "it", "a", "two", "dog"])
]
CHATS = [
    {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }
    for row in STRINGS
]

RUN = {"seed", "log"}


@pytest.fixture
def run(tmp_path: Path, base_folder: Path, make_run: Callable[..., TrainingRun]) -> Any:
    write_rows(tmp_path / "rows.jsonl", CHATS)

    def start(name: str = "a", **changes: Any) -> Any:
        settings: dict[str, Any] = {
            "base": base_folder,
            "demonstrations": tmp_path / "rows.jsonl",
            "heldout": tmp_path / "rows.jsonl",
            "config": CONFIG,
        }
        run = make_run(tmp_path / name, **{key: changes.pop(key) for key in RUN & changes.keys()})
        return finetune(**settings | changes, run=run)

    return start


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("rows", [STRINGS, CHATS], ids=["strings", "messages"])
def test_collated_labels_cover_completion_and_eos_only(
    rows: list[dict[str, Any]],
    tokenizer: Any,
    base_folder: Path,
    make_run: Callable[..., TrainingRun],
    tmp_path: Path,
) -> None:
    write_rows(tmp_path / "rows.jsonl", rows)
    learned = _encode_rows(tokenizer, tmp_path / "rows.jsonl", 64, "all", tmp_path / "cache")
    config = CONFIG.model_copy(update={"epochs": 1.0})
    network = load_causal_model(base_folder)
    trainer = _build_trainer(network, tokenizer, learned, config, make_run(tmp_path))
    seen = []
    for batch in trainer.get_train_dataloader():
        lengths = batch["cu_seq_lens_q"].diff().tolist()  # of the rows, which lie end to end
        assert sum(lengths) == batch["input_ids"].numel()
        for ids, labels in zip(
            batch["input_ids"][0].split(lengths), batch["labels"][0].split(lengths), strict=True
        ):
            counted = (labels != -100).nonzero().flatten()
            start = int(counted[0])
            assert counted.tolist() == list(range(start, len(ids)))  # a run up to the row's end
            assert labels[start:].tolist() == ids[start:].tolist()
            assert int(labels[-1]) == tokenizer.eos_token_id
            seen.append((ids[:start].tolist(), ids[start:].tolist()))
    wanted = [
        (
            encode_prompt(tokenizer, row["prompt"], 64),
            encode_completion(tokenizer, row["completion"]),
        )
        for row in rows
    ]
    assert sorted(seen) == sorted(wanted)


@pytest.mark.parametrize("turns", ["all", "last"])
def test_collated_labels_cover_the_turns_that_are_wanted(
    turns: Any,
    tokenizer: Any,
    base_folder: Path,
    make_run: Callable[..., TrainingRun],
    tmp_path: Path,
) -> None:
    """The mask itself is tested beside the encoding; here it reaches the trainer's batches."""
    asked = {"role": "user", "content": "and the dog?"}
    rows = [
        {**row, "prompt": [*row["prompt"], *row["completion"], asked]}
        for row in CHATS[: CONFIG.batch_size]
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    learned = _encode_rows(tokenizer, tmp_path / "rows.jsonl", 64, turns, tmp_path / "cache")
    config = CONFIG.model_copy(update={"epochs": 1.0})
    network = load_causal_model(base_folder)
    trainer = _build_trainer(network, tokenizer, learned, config, make_run(tmp_path))
    (batch,) = trainer.get_train_dataloader()
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    counted = [token for token, label in zip(ids, labels, strict=True) if label != -100]
    assert counted == [label for label in labels if label != -100]
    answers = [encode_completion(tokenizer, row["completion"]) for row in rows]
    assert len(counted) == sum(map(len, answers)) * (2 if turns == "all" else 1)


def test_rows_are_tokenised_as_trl_would(tokenizer: Any, base_folder: Path, tmp_path: Path) -> None:
    """The chat template is one that TRL's own preparation splits at the same place."""
    trainer = SFTTrainer(
        model=load_causal_model(base_folder),
        args=SFTConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            report_to=[],
            completion_only_loss=True,
            max_length=None,
        ),
        train_dataset=Dataset.from_list(CHATS),
        processing_class=tokenizer,
    )
    encoded = encode_demonstrations(tokenizer, CHATS, 64)
    for row, prompt, completion in zip(
        trainer.train_dataset, encoded.prompts, encoded.completions, strict=True
    ):
        assert row["input_ids"] == prompt + completion
        assert row["labels"] == [-100] * len(prompt) + completion


def test_long_rows_lose_prompt_and_overlong_completions_go(tokenizer: Any) -> None:
    completion = encode_completion(tokenizer, " on the mat")
    prompt = encode_prompt(tokenizer, "the cat sat", 64)
    room = len(completion) + 2
    assert len(prompt) > 2
    rows = [
        {"prompt": "the cat sat", "completion": " on the mat"},
        {"prompt": "the cat sat", "completion": " on the mat" * 9},
    ]
    encoded = encode_demonstrations(tokenizer, rows, room)
    assert encoded.prompts == [prompt[-2:]]
    assert encoded.completions == [completion]
    assert encoded.dropped == 1
    # A completion that leaves no token for the prompt does not fit either.
    assert encode_demonstrations(tokenizer, rows[:1], len(completion)).dropped == 1


def test_sft_learns_and_reports(run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = {**CHATS[0], "completion": [{"role": "assistant", "content": "the mat " * 80}]}
    write_rows(tmp_path / "rows.jsonl", [*CHATS, long])
    seen: dict[int, dict[str, float]] = {}
    metrics = run(log=lambda found, step: seen.setdefault(step, {}).update(found))
    assert metrics["sft/rows"] == 10.0
    assert metrics["sft/dropped_rows"] == 1.0
    assert "1 of 11 demonstrations" in caplog.text
    assert sorted(seen) == [1, 2, 3, 4, 5]  # 2 epochs of 10 rows in batches of 4
    assert [step for step in seen if "sft/heldout_loss" in seen[step]] == [2, 4, 5]
    assert seen[5]["sft/heldout_loss"] == metrics["sft/heldout_loss"]
    assert seen[5]["sft/heldout_loss"] < seen[2]["sft/heldout_loss"]
    assert {"sft/loss", "sft/grad_norm", "sft/learning_rate"} <= seen[1].keys()
    assert "quartet" not in (tmp_path / "a" / "config.json").read_text(encoding="utf-8")
    assert load_causal_model(tmp_path / "a").config._attn_implementation == "sdpa"


def test_prompt_tokens_do_not_move_the_loss(run: Any, tokenizer: Any, base_folder: Path) -> None:
    """First logged loss, by hand: mean over all completion tokens of the batch."""
    seen: dict[int, Mapping[str, float]] = {}
    config = CONFIG.model_copy(update={"batch_size": 10, "epochs": 1.0})
    run(config=config, log=lambda found, step: seen.setdefault(step, found))
    model = load_causal_model(base_folder)
    total, count = 0.0, 0
    encoded = encode_demonstrations(tokenizer, CHATS, 64)
    for prompt, completion in zip(encoded.prompts, encoded.completions, strict=True):
        logits = model(torch.tensor([prompt + completion])).logits[0].detach().double()
        for at, token in enumerate(completion):
            before = logits[len(prompt) + at - 1]
            total -= float(before[token] - before.logsumexp(0))
            count += 1
    # Float32 sums of about 100 logarithms.
    assert seen[1]["sft/loss"] == pytest.approx(total / count, rel=1e-5)


def test_equal_seeds_give_equal_bits_and_others_do_not(run: Any, tmp_path: Path) -> None:
    assert run("a") == run("b")
    run("c", seed=1)
    assert _weights(tmp_path / "a") == _weights(tmp_path / "b") != _weights(tmp_path / "c")


def test_killed_run_resumes_to_equal_bits_in_its_second_epoch(run: Any, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(metrics: Mapping[str, float], step: int) -> None:
        if step == 5:
            raise Killed

    run("whole")
    with pytest.raises(Killed):
        run("broken", log=kill)
    kept = tmp_path / "broken.checkpoints"
    assert latest(kept) == kept / "checkpoint-4"
    steps: list[int] = []
    run("broken", log=lambda metrics, step: steps.append(step))
    assert min(steps) == 5
    assert _weights(tmp_path / "broken") == _weights(tmp_path / "whole")


def test_rows_of_messages_need_a_template(run: Any, base_folder: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(base_folder, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        run(base=bare)


def test_nothing_left_to_learn_from_is_refused(run: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "long.jsonl", [{"prompt": "the", "completion": "the mat " * 80}])
    with pytest.raises(DataError, match="wanted at least one that fits"):
        run(demonstrations=tmp_path / "long.jsonl")
    write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(DataError, match="has 0 demonstrations"):
        run(heldout=tmp_path / "empty.jsonl")
