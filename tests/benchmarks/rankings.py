"""Prompts as batch elements against pairs as rows: pairs per second and held-out accuracy.

    python tests/benchmarks/rankings.py SFT_FOLDER [--seeds 3] [--prompts 800] [--completions 4]
    python tests/benchmarks/rankings.py SFT_FOLDER --smoke    # the numbers mean nothing

SFT_FOLDER is the SFT model of a quickstart (`store/sft/DIGEST/model`). Completions of the embedded
world are ranked with noise: by their utility and a Gumbel draw, so that each pair of a ranking
follows the Bradley-Terry model of the simulated annotator (Plackett-Luce). All pairs of each
ranking train a reward model from the same SFT model with both batch elements in turn: the same
pairs, as many pairs per optimiser step, as many steps. Held-out pairs are of other prompts, ordered
by utility without noise. With one thread, seconds are CPU seconds of the process.
"""

import math
import random
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from report import spread, table

from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.reward.config import RewardStageConfig
from models.reward.training import train_reward_model
from models.rows import write_rows
from models.runtime import TrainingRun
from tasks.world.annotator import Impression, utility
from tasks.world.completions import Quality, draw_quality, write_completion
from tasks.world.config import WorldConfig
from tasks.world.families import WorldPrompt, known_prompts
from tasks.world.generate import generate_world

SHARPNESS = 1.5
"""Of the annotator: P(better) = sigmoid(1.5 * difference in utility)."""
TONES = {"rude": -1, "neutral": 0, "polite": 1}
ARMS = ("pairs", "prompts", "prompts, half a batch")


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    found: dict[tuple[float, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(arguments.seeds):
            for epochs in arguments.epochs:
                folder = _write_data(Path(temporary) / f"{seed}-{epochs}", arguments, seed, epochs)
                for arm in ARMS:  # in turn, so that all meet the same machine
                    one = _train(arguments, folder, seed, epochs, arm)
                    found.setdefault((epochs, arm), []).append(one)
                    print(f"seed {seed}, {epochs:g} epochs, {arm}: {one}", file=sys.stderr)
    unit = "CPU s" if arguments.threads == 1 else "s"
    headers = f"epochs|batch|pairs/{unit}|tokens/{unit}|tokens|held-out accuracy|final loss"
    print(table(headers.split("|"), [_row(key, runs) for key, runs in found.items()]))
    for epochs in arguments.epochs:
        pairs = found[epochs, ARMS[0]]
        for arm in ARMS[1:]:
            both = list(zip(pairs, found[epochs, arm], strict=True))
            ratios = [b["speed"] / a["speed"] for a, b in both]
            gains = [b["accuracy"] - a["accuracy"] for a, b in both]
            print(f"{epochs:g} epochs, {arm}: pairs/s {spread(ratios)} times as many; ", end="")
            print(f"accuracy {statistics.mean(gains):+.4f} (by seed: {_signed(gains)})")


def _row(key: tuple[float, str], runs: list[dict[str, float]]) -> list[str]:
    epochs, arm = key
    return [
        f"{epochs:g}",
        arm,
        *(spread([run[name] for run in runs], digits=0) for name in ("speed", "token_speed")),
        f"{statistics.median(run['tokens'] for run in runs):,.0f}",
        spread([run["accuracy"] for run in runs], digits=3),
        spread([run["loss"] for run in runs], digits=3),
    ]


def _signed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:+.3f}" for value in values)


def _train(
    arguments: Namespace, folder: Path, seed: int, epochs: float, arm: str
) -> dict[str, float]:
    """Train one reward model; the time is of its optimiser steps, start and end left out."""
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    times: list[float] = []
    losses: list[float] = []

    def log(metrics: Mapping[str, float], step: int) -> None:
        if "reward/loss" in metrics:
            times.append(clock())
            losses.append(metrics["reward/loss"])

    prompts = arguments.batch_prompts
    sizes = (prompts * math.comb(arguments.completions, 2), prompts, prompts // 2)
    metrics = train_reward_model(
        sft=arguments.sft,
        preferences=folder / "train.jsonl",
        heldout=folder / "heldout.jsonl",
        prompts=folder / "prompts.jsonl",
        contrasts=None,
        config=RewardStageConfig(
            batch_element="pair" if arm == ARMS[0] else "prompt",
            batch_size=sizes[ARMS.index(arm)],
            epochs=epochs,
            checkpoint_steps=100_000,
            moment_samples=16,
        ),
        sampling=SamplingConfig(max_completion_tokens=8),
        run=TrainingRun(
            out=folder / arm,
            checkpoints=folder / f"{arm}.checkpoints",
            device="cpu",
            seed=seed,
            log=log,
        ),
    )
    share = (len(times) - 1) / len(times)  # the first span ends where the clock starts
    seconds = (times[-1] - times[0]) / share
    return {
        "speed": metrics["reward/pairs"] * epochs / seconds,
        "token_speed": metrics["reward/tokens"] / seconds,
        "tokens": metrics["reward/tokens"],
        "accuracy": metrics["reward/accuracy"],
        "loss": statistics.mean(losses[-max(1, len(losses) // 10) :]),
    }


def _write_data(folder: Path, arguments: Namespace, seed: int, epochs: float) -> Path:
    """Write rankings as all their pairs: noisy ones to training prompts, true ones to others."""
    folder.mkdir()
    world = generate_world(WorldConfig(), 0)  # the split by which the SFT model was trained
    known = known_prompts()
    rng = random.Random(derive_seed(seed, "rankings"))
    train: list[dict[str, Any]] = []
    heldout: list[dict[str, Any]] = []
    for rows, prompts, count, sharpness in (
        (train, world.prompts, round(arguments.prompts / epochs), SHARPNESS),
        (heldout, world.heldout_prompts, arguments.heldout_prompts, math.inf),
    ):
        texts = [row["prompt"][0]["content"] for row in prompts]
        for text in rng.sample(texts, min(count, len(texts))):
            rows += _ranking(known[text], arguments.completions, sharpness, rng)
    rng.shuffle(train)
    write_rows(folder / "train.jsonl", train)
    write_rows(folder / "heldout.jsonl", heldout)
    write_rows(folder / "prompts.jsonl", world.prompts)
    return folder


def _ranking(
    prompt: WorldPrompt, completions: int, sharpness: float, rng: random.Random
) -> list[dict[str, Any]]:
    """Write completions of different qualities and all their pairs, the better one chosen.

    Without noise, pairs of equal utility are left out.
    """
    qualities: list[Quality] = []
    while len(qualities) < completions:
        quality = draw_quality(WorldConfig(), rng)
        if quality not in qualities:
            qualities.append(quality)
    ranked = []
    for quality in qualities:
        worth = utility(
            Impression(correct=quality.correct, tone=TONES[quality.tone], fillers=quality.fillers)
        )
        noise = -math.log(-math.log(rng.random())) / sharpness
        ranked.append((worth + noise, write_completion(prompt, quality, rng)))
    ranked.sort(reverse=True)
    asked = [{"role": "user", "content": prompt.text}]
    return [
        {
            "prompt": asked,
            "chosen": [{"role": "assistant", "content": better}],
            "rejected": [{"role": "assistant", "content": worse}],
        }
        for (high, better), (low, worse) in combinations(ranked, 2)
        if high > low and better != worse
    ]


def _arguments() -> Namespace:
    parser = ArgumentParser(description="Compare the batch elements of reward modelling.")
    parser.add_argument("sft", type=Path, metavar="SFT_FOLDER", help="a quickstart's SFT model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--prompts", type=int, default=800, help="rankings seen in all epochs")
    parser.add_argument("--completions", type=int, default=4, help="of a ranking")
    parser.add_argument("--batch-prompts", type=int, default=8, help="per optimiser step")
    parser.add_argument("--heldout-prompts", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1, help="1 compares CPU seconds")
    parser.add_argument("--smoke", action="store_true", help="few rankings, one seed")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.seeds, arguments.prompts, arguments.heldout_prompts = 1, 64, 20
    return arguments


if __name__ == "__main__":
    main()
