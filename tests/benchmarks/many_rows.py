"""Many rows: time, memory and silence of preparation, SFT and reward model, and of a second start.

    python tests/benchmarks/many_rows.py [--rows 1000000] [--home FOLDER]

Makes so many preferences of 1.3 kB, and as many demonstrations of them, and runs the `reviews`
preset on a network of a few thousand weights, four rows a step, so that what is measured is the
rows' own. Each stage's seconds and the most memory that the process had held by its end; then once
more with other learning rates, which finds the data prepared and tokenised. The first step is the
first of a training that the log tells of; the longest silence is that between two log lines.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from models.rows import write_rows

SMALL = (
    "model.layers=1", "model.width=32", "model.heads=2", "model.context=1024",
    "tokenizer.vocab_size=4000", "pretrain.steps=20", "sampling.max_completion_tokens=12",
    "sft.max_tokens=1024", "sft.epochs=0.0002", "sft.batch_size=4", "reward.max_tokens=1024",
    "reward.epochs=0.0002", "reward.batch_size=4", "reward.judge_share=0.3",
    "reward.moment_samples=32", "reward_quality.prompts=8", "reward_quality.best_of=4",
    "reward_quality.stop_if_weak=true",
)  # fmt: skip
"""The reward model learns nothing from drawn words, so the run ends before PPO."""
AGAIN = ("sft.learning_rate=2e-3", "reward.learning_rate=2e-3")
HEADER = "| stage | seconds | peak, GiB | to the first step, s |\n|---|---:|---:|---:|"
SILENCE = re.compile(r"^(\d\d:\d\d:\d\d\.\d{3}) \| \w+ +\| (.*)$", re.MULTILINE)


def rows(count: int) -> Iterator[dict[str, str]]:
    """Preferences of drawn words."""
    draw = random.Random(0)
    letters = "etaoinshrdlu"
    words = ["".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(20_000)]

    def text(characters: int) -> str:
        return " ".join(draw.choices(words, k=characters // 6))

    for _ in range(count):
        sizes = (draw.randint(100, 700), draw.randint(100, 800), draw.randint(100, 800))
        yield dict(zip(("prompt", "chosen", "rejected"), map(text, sizes), strict=True))


def make_data(folder: Path, count: int) -> None:
    """Write a data folder."""
    folder.mkdir(parents=True)
    write_rows(folder / "pairs_train.jsonl", rows(count))
    write_rows(
        folder / "sft.jsonl",
        ({"prompt": row["prompt"], "completion": row["chosen"]} for row in rows(count)),
    )
    write_rows(folder / "pretrain.jsonl", ({"text": row["chosen"]} for row in rows(2000)))


def run(home: Path, data: Path, *more: str) -> None:
    """Run the chain up to the reward model's quality, and print what its stages took."""
    given = [word for one in (f"data.folder={data}", *SMALL, *more) for word in ("--set", one)]
    quartet = Path(sys.executable).with_name("quartet")
    done = subprocess.run(
        [str(quartet), "run", "reviews", *given],
        env={**os.environ, "QUARTET_HOME": str(home)}, capture_output=True, text=True,
    )  # fmt: skip
    lines = SILENCE.findall(done.stdout + done.stderr)
    if not any("reward-quality: done" in line for _, line in lines):
        sys.exit(done.stdout + done.stderr)
    times = [datetime.strptime(time, "%H:%M:%S.%f") for time, _ in lines]
    told = [(time, line) for time, (_, line) in zip(times, lines, strict=True)]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    longest = max(range(len(gaps)), key=gaps.__getitem__)
    manifests = sorted(home.glob("store/*/*/MANIFEST.json"), key=lambda one: one.stat().st_mtime)
    for path in manifests:
        made = json.loads(path.read_text(encoding="utf-8"))
        begun = f"{made['stage']} {made['digest'][:12]}: starting"
        begins = [time for time, line in told if begun in line]
        if begins:
            steps = [time for time, line in told if f"{made['stage']}: step " in line]
            first = f"{(steps[0] - begins[0]).total_seconds():.0f}" if steps else ""
            cells = (made["stage"], f"{made['seconds']:.0f}", f"{made['peak_gib']:.2f}", first)
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"longest silence: {gaps[longest]:.1f} s after {lines[longest][1]!r}", flush=True)


def main() -> None:
    """Measure both runs."""
    parser = argparse.ArgumentParser(description="Many rows.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--home", type=Path, help="Home folder, and data, that are kept.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = given.home or Path(scratch) / "home"
        data = home.with_name(f"{home.name}-data-{given.rows}")
        if not data.exists():
            make_data(data, given.rows)
        size = sum(one.stat().st_size for one in data.iterdir()) / 1e9
        print(f"{given.rows:,} pairs and demonstrations, {size:.2f} GB", flush=True)
        for what, more in (("first", ()), ("again, other learning rates", AGAIN)):
            print(f"\n{what}\n\n{HEADER}", flush=True)
            run(home, data, *more)


if __name__ == "__main__":
    main()
