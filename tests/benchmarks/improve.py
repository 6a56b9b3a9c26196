"""Rounds against one collection of as many labels: what each round gains, and at what cost.

    python tests/benchmarks/improve.py [--home FOLDER] [--arms ARM ...] [--seeds 0 1 2]
                                       [--rounds 3] [--labels 400] [path.to.field=value ...]

The quickstart with its simulated annotator; `--labels` are annotated pairs, to which the preset's
share of given ones is added. Arms: `random` and `disagreement` collect the labels in rounds, each
sampled by the newest accepted policy, prompts chosen so; `once` collects all of them from the SFT
model. Prints a row an arm, seed and round: annotated pairs so far, and the gain under the gold
judge. Each run is a process of its own; with `--home` finished stages are reused, so a measurement
that was cut off goes on. Settings apply to every run.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment import run

ARMS = ("random", "disagreement", "once")
COMMON = (
    "reward.judge_share=0.3",  # who else could disagree; the same in all arms
    "reward_quality.stop_if_weak=false",
)
HEADER = (
    "arm", "seed", "round", "sampled by", "labels", "gold gain", "KL, nats", "verdict", "seconds",
)  # fmt: skip
ANNOTATED_SHARE = 0.6
"""Of the training pairs; the quickstart's."""
SHARED = 4
"""Stages before the first round: data, tokenizer, base model, SFT."""


def seconds(home: Path, stages: Sequence[Mapping[str, Any]]) -> float:
    """What stages took when they were computed, reused or not."""
    manifests = (home / "store" / one["name"] / one["digest"] / "MANIFEST.json" for one in stages)
    return sum(float(json.loads(one.read_text(encoding="utf-8"))["seconds"]) for one in manifests)


def rounds_of(
    home: Path, arm: str, seed: int, given: argparse.Namespace
) -> Iterator[tuple[dict[str, Any], float]]:
    """The rounds of one arm, each with its seconds; `once` is a single one."""
    count = 1 if arm == "once" else given.rounds
    labels = given.labels * given.rounds // count
    chosen = () if arm == "once" else (f"feedback.choose={arm}",)
    pairs = round(labels / ANNOTATED_SHARE)
    settings = [*COMMON, f"seed={seed}", f"feedback.preferences={pairs}", *chosen, *given.settings]
    words = ["improve", "quickstart", "--rounds", str(count), "--no-promotion"]
    result = run(home, words, settings)
    stages = result["stages"][SHARED:]
    each = len(stages) // count
    for at, row in enumerate(result["rounds"]):
        yield row, seconds(home, stages[at * each : (at + 1) * each])


def cells(arm: str, seed: int, row: Mapping[str, Any], taken: float) -> list[str]:
    """One line of the table."""
    mean, low, high = (row["gain"][end] for end in ("mean", "low", "high"))
    return [
        arm,
        str(seed),
        str(row["round"]),
        f"round {row['sampled_by']}" if row["sampled_by"] else "SFT model",
        f"{row['labels']:.0f}",
        f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]",
        f"{row['kl']:.2f}",
        "accepted" if row["accepted"] else "rejected",
        f"{taken:.1f}",
    ]


def main() -> None:
    """Run every arm with every seed and print the table."""
    parser = argparse.ArgumentParser(description="Rounds against one collection of labels.")
    parser.add_argument("--home", type=Path, help="Home folder whose stages are reused.")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=400, help="Annotated pairs a round.")
    parser.add_argument("settings", nargs="*")
    given = parser.parse_intermixed_args()
    print(f"| {' | '.join(HEADER)} |\n|---|---:|---:|---|{'---:|' * 3}---|---:|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = given.home or Path(scratch) / "home"
        for seed in given.seeds:
            for arm in given.arms:
                for row, taken in rounds_of(home, arm, seed, given):
                    print(f"| {' | '.join(cells(arm, seed, row, taken))} |", flush=True)


if __name__ == "__main__":
    main()
