"""One side of the stage benchmark: pretraining, SFT, reward model or sampling; run by `stages.py`.

Trainers of both sides are timed by the same callback, from the end of one epoch to the end of the
next, so that loading, tokenising, checkpoints and held-out measurements are no part of it. Each
epoch has every row once; the first is the warm-up. Pretraining's rounds are of so many steps; its
peer is a plain loop of torch.
"""

import json
import tempfile
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from networks import causal_model, digest, tokenizer
from quiet import Enough, Rounds, child_arguments, emit_header
from transformers import TrainerCallback, trainer
from workloads import (
    BLOCK_TOKENS,
    COMPLETION_TOKENS,
    CONTEXT,
    EOS_ID,
    FIRST_WORD_ID,
    PAD_ID,
    SIZES,
    WORKLOADS,
    Workload,
    prompt_blocks,
    stage_rows,
)

STEPS_AN_EPOCH = 16
"""The project groups rows by length within so many batches: an epoch is one such window."""
BATCH_SIZE = 16
PRETRAINING_STEPS = 128
"""Of a round."""
NEVER_SAVED = 10**6
KINDS = {
    "sft": ("completion",),
    "reward": ("chosen", "rejected"),
}


class EpochTimer(TrainerCallback):  # type: ignore[misc]
    """Ends a round with each epoch."""

    def __init__(self, rounds: Rounds, tokens: int, steps: int = STEPS_AN_EPOCH) -> None:
        """Take the real tokens and the steps of an epoch."""
        self.rounds = rounds
        self.tokens = tokens
        self.steps = steps

    def on_train_begin(self, *given: Any, **named: Any) -> None:
        """Begin the warm-up."""
        self.rounds.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """End the round with the epoch's last step."""
        if state.global_step % self.steps == 0:
            self.rounds.end(tokens=self.tokens)
            self.rounds.begin()


def main() -> None:
    """Run one side of one stage."""
    arguments = child_arguments("Measure one side of a stage.")
    if arguments.side == "ours":
        from models.runtime import use_device

        use_device("cpu", arguments.threads)
    else:
        torch.set_num_threads(arguments.threads)
    kind, _, name = arguments.what.partition(":")  # sft:S, reward:S, sampling:S64
    rounds = Rounds(arguments)
    with suppress(Enough):
        if kind == "sampling":
            _sample(WORKLOADS[name], rounds, arguments.side)
        elif kind == "pretrain":
            _pretrain(name, rounds, arguments.side)
        else:
            _train(kind, name, rounds, arguments)


def _train(kind: str, size: str, rounds: Rounds, arguments: Namespace) -> None:
    """Run a training stage until `Enough` is raised from within."""
    rows = stage_rows(size, STEPS_AN_EPOCH * BATCH_SIZE, KINDS[kind])
    tokens = sum(_tokens(row, name) for row in rows for name in KINDS[kind])
    runners: dict[tuple[str, str], Callable[[Path, Rounds], None]] = {
        ("sft", "ours"): _own_sft,
        ("sft", "peer"): _peer_sft,
        ("reward", "ours"): _own_reward,
        ("reward", "peer"): _peer_reward,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, encoder = causal_model(SIZES[size]), tokenizer(size)
        model.save_pretrained(folder / "model")
        encoder.save_pretrained(folder / "model")
        emit_header(weights=digest(model))
        del model
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
        (folder / "few.jsonl").write_text(lines[: lines.index("\n") + 1], encoding="utf-8")
        trainer.DEFAULT_CALLBACKS.append(EpochTimer(rounds, tokens))
        runners[kind, arguments.side](folder, rounds)


def _tokens(row: dict[str, str], name: str) -> int:
    """Tokens of prompt and completion with its EOS."""
    return len(row["prompt"].split()) + len(row[name].split()) + 1


def _own_sft(folder: Path, rounds: Rounds) -> None:
    from models.training.config import SFTStageConfig
    from models.training.sft import finetune

    finetune(
        base=folder / "model",
        demonstrations=folder / "rows.jsonl",
        heldout=folder / "few.jsonl",
        config=SFTStageConfig(
            epochs=float(rounds.most),
            batch_size=BATCH_SIZE,
            max_tokens=CONTEXT,
            checkpoint_steps=NEVER_SAVED,
        ),
        run=_own_run(folder),
    )


def _own_reward(folder: Path, rounds: Rounds) -> None:
    from models.language.config import SamplingConfig
    from models.reward.config import RewardStageConfig
    from models.reward.training import train_reward_model

    train_reward_model(
        sft=folder / "model",
        preferences=folder / "rows.jsonl",
        heldout=folder / "few.jsonl",
        prompts=folder / "few.jsonl",
        contrasts=None,
        config=RewardStageConfig(
            epochs=float(rounds.most),
            batch_size=BATCH_SIZE,
            max_tokens=CONTEXT,
            checkpoint_steps=NEVER_SAVED,
        ),
        sampling=SamplingConfig(),
        run=_own_run(folder),
    )


def _own_run(folder: Path) -> Any:
    from models.runtime import TrainingRun

    return TrainingRun(
        out=folder / "out",
        checkpoints=folder / "checkpoints",
        seed=0,
        device="cpu",
        log=lambda metrics, step: None,
    )


def _peer_sft(folder: Path, rounds: Rounds) -> None:
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        args=SFTConfig(**_peer_settings(folder, rounds)),
        **_peer_rows(folder),
    ).train()


def _peer_reward(folder: Path, rounds: Rounds) -> None:
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(
            folder / "model", num_labels=1, dtype=torch.float32
        ),
        args=RewardConfig(**_peer_settings(folder, rounds)),
        **_peer_rows(folder),
    ).train()


def _peer_settings(folder: Path, rounds: Rounds) -> dict[str, Any]:
    """TRL's defaults but for the batch, the precision and recomputation, which cost time here."""
    return {
        "output_dir": str(folder / "checkpoints"),
        "num_train_epochs": rounds.most,
        "per_device_train_batch_size": BATCH_SIZE,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def _peer_rows(folder: Path) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoTokenizer

    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "train_dataset": Dataset.from_list([json.loads(line) for line in lines]),
        "processing_class": AutoTokenizer.from_pretrained(folder / "model"),
    }


def _pretrain(size: str, rounds: Rounds, side: str) -> None:
    """Pretrain until `Enough` is raised from within."""
    from models.families.config import ArchitectureConfig
    from models.families.networks import build_model

    shape = SIZES[size]
    architecture = ArchitectureConfig(
        layers=shape.layers, width=shape.width, heads=shape.heads, context=BLOCK_TOKENS
    )
    encoder = tokenizer(size)
    model = build_model(architecture, encoder, seed=0)
    assert model.config.intermediate_size == shape.feed_forward, "the floor is of another network"
    emit_header(weights=digest(model))
    tokens = PRETRAINING_STEPS * BATCH_SIZE * BLOCK_TOKENS
    if side == "peer":
        _plain_loop(model, rounds, tokens)
        return
    from models.training.config import PretrainConfig
    from models.training.pretraining import pretrain

    texts = stage_rows(size, tokens // sum(COMPLETION_TOKENS) * 4, ("text",))
    lines = [json.dumps({"text": row["text"]}) + "\n" for row in texts]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        encoder.save_pretrained(folder / "tokenizer")
        (folder / "corpus.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / "few.jsonl").write_text("".join(lines[:20]), encoding="utf-8")
        trainer.DEFAULT_CALLBACKS.append(EpochTimer(rounds, tokens, PRETRAINING_STEPS))
        pretrain(
            tokenizer=folder / "tokenizer",
            corpus=folder / "corpus.jsonl",
            heldout=folder / "few.jsonl",
            architecture=architecture,
            config=PretrainConfig(
                steps=rounds.most * PRETRAINING_STEPS,
                batch_size=BATCH_SIZE,
                block_tokens=BLOCK_TOKENS,
                checkpoint_steps=NEVER_SAVED,
            ),
            run=_own_run(folder),
        )


def _plain_loop(model: Any, rounds: Rounds, tokens: int) -> None:
    """What one writes without a trainer: AdamW on random blocks, gradients clipped."""
    ids = torch.randint(
        FIRST_WORD_ID, model.config.vocab_size, (tokens // BLOCK_TOKENS, BLOCK_TOKENS)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.1)
    model.train()
    while True:
        rounds.begin()
        for batch in ids.split(BATCH_SIZE):
            loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
        rounds.end(tokens=tokens)


def _sample(workload: Workload, rounds: Rounds, side: str) -> None:
    """Sample a block of prompts a round until `Enough` is raised."""
    model = causal_model(SIZES[workload.size], workload.eos_boost).eval()
    blocks = prompt_blocks(workload, rounds.last + 1)
    emit_header(weights=digest(model))
    sampler = _own_sampler if side == "ours" else _peer_sampler
    sample = sampler(model, workload)
    while True:
        rounds.begin()
        lengths = sample(blocks[rounds.number])
        rounds.end(tokens=sum(lengths))


def _own_sampler(model: Any, workload: Workload) -> Callable[[list[list[int]]], list[int]]:
    from models.language.config import SamplingConfig
    from models.language.generation import sample_completions

    sampling = SamplingConfig(max_completion_tokens=workload.new_tokens)
    generator = torch.Generator().manual_seed(0)

    def sample(prompts: list[list[int]]) -> list[int]:
        completions = sample_completions(
            model,
            prompts,
            sampling=sampling,
            eos_token_id=-1 if workload.eos_boost is None else EOS_ID,
            generator=generator,
        )
        return [len(completion.token_ids) for completion in completions]

    return sample


def _peer_sampler(model: Any, workload: Workload) -> Callable[[list[list[int]]], list[int]]:
    encoder = tokenizer(workload.size)
    ends = workload.eos_boost is not None
    model.generation_config.eos_token_id = EOS_ID if ends else None

    def sample(prompts: list[list[int]]) -> list[int]:
        batch = encoder.pad({"input_ids": prompts}, padding=True, return_tensors="pt")
        found = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=workload.new_tokens,
            pad_token_id=PAD_ID,
            output_scores=True,
            return_dict_in_generate=True,
        )
        ended = (found.sequences[:, batch["input_ids"].shape[1] :] == EOS_ID) & ends
        going_on: list[int] = (ended.cumsum(1) - ended.long() == 0).sum(1).tolist()
        return going_on

    return sample


if __name__ == "__main__":
    main()
