"""The ways with completions that are cut at the limit: what each does to length, ending and gain.

    python tests/benchmarks/cut_completions.py [--preset NAME] [--home FOLDER] [--seeds 0 1 2]
        [path.to.field=value ...]

Prints one row a way and seed: a preset with each, in one home folder, so that everything before PPO
is computed once a seed. Settings apply to every run.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignment import interval, run

WAYS: dict[str, tuple[str, ...]] = {
    "penalty 3": ("ppo.missing_eos_penalty=3",),
    "no penalty": ("ppo.missing_eos_penalty=0",),
    "no penalty, not learned from": ("ppo.missing_eos_penalty=0", "ppo.learn_from_cut=false"),
    "penalty 3, growing over the last 8 tokens": (
        "ppo.missing_eos_penalty=3",
        "ppo.overlong_tokens=8",
    ),
}
HEADER = (
    "way", "seed", "verdict", "ends, SFT to policy", "length ratio", "gain, raw",
    "gain, at equal length", "KL, nats",
)  # fmt: skip


def row(way: str, seed: int, result: Mapping[str, Any]) -> list[str]:
    """The numbers of one run, as text."""
    final = result["final"]
    judge = next(one for one in ("gold", "judge_score", "score") if f"final/{one}_gain" in final)

    return [
        way,
        str(seed),
        "accepted" if result["verdict"]["accepted"] else "rejected",
        " to ".join(f"{final[f'final/eos_rate_{model}']:.2f}" for model in ("sft", "ppo")),
        f"{final['final/length_ratio']:.2f}",
        interval(final, f"{judge}_gain"),
        interval(final, f"{judge}_controlled_gain"),
        f"{final['final/kl_to_reference']:.2f}",
    ]


def main() -> None:
    """Run every way with every seed and print the table."""
    parser = argparse.ArgumentParser(description="Ways with completions that are cut.")
    parser.add_argument("--preset", default="quickstart")
    parser.add_argument("--home", type=Path, help="Home folder whose stages are reused.")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("settings", nargs="*")
    given = parser.parse_args()
    print(f"| {' | '.join(HEADER)} |\n|---|---:|---|{'---:|' * (len(HEADER) - 3)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = given.home or Path(scratch) / "home"
        for seed in given.seeds:
            for way, settings in WAYS.items():
                words = ("run", given.preset)
                try:
                    result = run(home, words, [*given.settings, f"seed={seed}", *settings])
                    cells = row(way, seed, result)
                except SystemExit as stopped:
                    cells = [way, str(seed), f"stopped: {str(stopped).strip().splitlines()[-1]}"]
                print(f"| {' | '.join(cells)}{' |' * (len(HEADER) - len(cells))} |", flush=True)


if __name__ == "__main__":
    main()
