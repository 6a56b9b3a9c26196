"""The ways to align, on the same preferences: what each gains, costs and holds in memory.

    python tests/benchmarks/alignment.py [--home FOLDER] [--seeds 0 1 2] [path.to.field=value ...]

Prints one row a way and seed: the quickstart with each, in one home folder, so that everything
before the alignment is computed once a seed. Each runs in a process of its own; its seconds and its
peak of memory are the stage's. Settings apply to every run.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WAYS: dict[str, tuple[str, ...]] = {
    "PPO": (),
    "RLOO": ("ppo.advantages=rloo",),
    "GRPO": ("ppo.advantages=grpo",),
    "DPO": ("align=dpo",),
    "best of 16 + SFT": ("align=best_of_n", "best_of_n.samples_per_prompt=16"),
}
HEADER = (
    "way", "seed", "verdict", "gold gain", "KL, nats", "length ratio", "distinct-2, SFT to policy",
    "seconds", "peak, GiB",
)  # fmt: skip
QUICKSTART = ("run", "quickstart")


def run(home: Path, words: Sequence[str], settings: Sequence[str]) -> dict[str, Any]:
    """Run a command of Quartet in a process of its own; what `--result` writes."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.json"
        given = [word for one in settings for word in ("--set", one)]
        quartet = Path(sys.executable).with_name("quartet")
        done = subprocess.run(
            [str(quartet), *words, "--result", str(result), *given],
            env={**os.environ, "QUARTET_HOME": str(home)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found


def interval(final: Mapping[str, float], name: str) -> str:
    """A gain of an evaluation with its interval, as text."""
    ends = (final.get(f"final/{name}{end}", math.nan) for end in ("", "_low", "_high"))
    mean, low, high = (f"{one:+.3f}" for one in ends)
    return f"{mean} [{low}, {high}]"


def row(way: str, seed: int, result: dict[str, Any], home: Path) -> list[str]:
    """The numbers of one run, as text."""
    final, stage = result["final"], result["stages"][-2]
    manifest = home / "store" / stage["name"] / stage["digest"] / "MANIFEST.json"
    peak = json.loads(manifest.read_text(encoding="utf-8"))["peak_gib"]
    before, after = (final[f"final/distinct_2_{model}"] for model in ("sft", "ppo"))
    return [
        way,
        str(seed),
        "accepted" if result["verdict"]["accepted"] else "rejected",
        interval(final, "gold_gain"),
        f"{final['final/kl_to_reference']:.2f}",
        f"{final['final/length_ratio']:.2f}",
        f"{before:.3f} to {after:.3f}",
        f"{stage['seconds']:.1f}",
        f"{peak:.2f}",
    ]


def main() -> None:
    """Run every way with every seed and print the table."""
    parser = argparse.ArgumentParser(description="Ways to align, on the same preferences.")
    parser.add_argument("--home", type=Path, help="Home folder whose stages are reused.")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("settings", nargs="*")
    given = parser.parse_args()
    print(f"| {' | '.join(HEADER)} |\n|---|---:|---|{'---:|' * (len(HEADER) - 3)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = given.home or Path(scratch) / "home"
        for seed in given.seeds:
            common = [*given.settings, f"seed={seed}"]
            # what comes before, so that no way's process has held it
            run(home, QUICKSTART, [*common, "ppo.iterations=1", "ppo.critic_warmup_iterations=0"])
            for way, settings in WAYS.items():
                cells = row(way, seed, run(home, QUICKSTART, [*common, *settings]), home)
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
