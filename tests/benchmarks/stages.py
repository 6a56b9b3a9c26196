"""Time pretraining, SFT, reward modelling and sampling against what others do by default.

    python tests/benchmarks/stages.py [--stages pretrain sft ...] [--iterations 5] [--threads 2]
    python tests/benchmarks/stages.py --second-thread    # ours only: what it gives
    python tests/benchmarks/stages.py --smoke    # does it run at all; the numbers mean nothing

Both sides run in turn, each in a process of its own, in the project's environment: the stages as
the pipeline calls them against TRL's trainers with their default collators on the same rows with
the same batch size, and `sample_completions` against `generate` with scores on the same prompts;
float32, no recomputation. Pretraining runs against a plain loop of torch, and against the FLOPs
that a large matrix product reaches in the same call. Only tokens that count are counted: real ones
in training, new ones up to EOS in sampling. Noise is handled as in `ppo.py`.
"""

import statistics
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from flops import pretraining_flops
from report import machine_line, marked, spread, table, write_rows
from sides import Effort, Side, flops_per_second, run_side
from workloads import BLOCK_TOKENS, SIZES

STAGES = {
    "pretrain": ("pretrain:Q",),
    "sft": ("sft:S",),
    "reward": ("reward:S",),
    "sampling": ("sampling:S64", "sampling:S128e"),
}
SMOKE = {
    "pretrain": ("pretrain:Q",),
    "sft": ("sft:tiny",),
    "reward": ("reward:tiny",),
    "sampling": ("sampling:smoke", "sampling:smoke-e"),
}

SECOND_THREAD = (
    ("own_ppo.py", "S64"),
    ("stage_sides.py", "sampling:S64"),
    ("stage_sides.py", "pretrain:Q"),
)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    effort = Effort(
        iterations=arguments.iterations, threads=arguments.threads, tries=arguments.tries
    )
    if arguments.second_thread:
        compare_threads(effort)
        return
    chosen = SMOKE if arguments.smoke else STAGES
    sides: dict[tuple[str, str], Side] = {}
    rows = []
    for what in (what for stage in arguments.stages for what in chosen[stage]):
        for side in ("peer", "ours"):
            sides[what, side] = run_side(Path(sys.executable), "stage_sides.py", what, effort, side)
        rows.append(_row(what, sides[what, "peer"], sides[what, "ours"]))
    about = machine_line(effort.threads, {"both": next(iter(sides.values())).header})
    print(f"Tokens a second against TRL's trainers and transformers' generate\n\n{about}\n")
    headers = "stage|default: tokens/s|ours: tokens/s|ratio|peak MiB: default|ours"
    print(table(headers.split("|"), rows))
    if "pretrain" in arguments.stages:
        print(f"\n{_of_the_floor(sides, effort)}")
    if arguments.json is not None:
        write_rows(arguments.json, about, sides)


def compare_threads(effort: Effort) -> None:
    """Run our side with one thread, whose CPU seconds count, and with two, and print a table."""
    rows = []
    for script, what in SECOND_THREAD:
        sides = [
            run_side(Path(sys.executable), script, what, replace(effort, threads=threads), "ours")
            for threads in (1, 2)
        ]
        seconds = [side.seconds() for side in sides]
        ratio = statistics.median(seconds[0]) / statistics.median(seconds[1])
        rows.append([marked(what, *sides), *(spread(one) for one in seconds), f"{ratio:.2f}"])
    about = machine_line(2, {"ours": sides[-1].header})
    headers = "what|one thread, CPU s|two threads, s|ratio"
    print(f"What the second thread gives\n\n{about}\n\n{table(headers.split('|'), rows)}")


def _of_the_floor(sides: dict[tuple[str, str], Side], effort: Effort) -> str:
    """How much of the rate of a large matrix product pretraining reaches."""
    rate = flops_per_second(effort)
    (what,) = STAGES["pretrain"]
    token = pretraining_flops(SIZES[what.partition(":")[2]], BLOCK_TOKENS)
    shares = {
        side: statistics.median(sides[what, side].rates("tokens")) * token / rate
        for side in ("ours", "peer")
    }
    return (
        f"Of the {rate / 1e9:.0f} GFLOP/s of a large matrix product pretraining reaches "
        f"{shares['ours']:.2f}, the plain loop {shares['peer']:.2f}."
    )


def _row(what: str, peer: Side, ours: Side) -> list[str]:
    """One line of the table.

    Raises:
        SystemExit: The two sides did not start from the same weights.
    """
    if peer.header["weights"] != ours.header["weights"]:
        raise SystemExit(f"{what}: the two sides made different weights, nothing is comparable")
    speeds = [side.rates("tokens") for side in (peer, ours)]
    return [
        marked(what, peer, ours),
        *(spread(speed, digits=0) for speed in speeds),
        f"{statistics.median(speeds[1]) / statistics.median(speeds[0]):.2f}",
        f"{peer.peak_mib:,.0f}",
        f"{ours.peak_mib:,.0f}",
    ]


def _arguments() -> Namespace:
    parser = ArgumentParser(description="Time pretraining, SFT, reward modelling and sampling.")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--iterations", type=int, default=5, help="measured, after a warm-up")
    parser.add_argument("--threads", type=int, default=2, help="1 compares CPU seconds")
    parser.add_argument("--tries", type=int, default=3, help="of a round while it is noisy")
    parser.add_argument("--second-thread", action="store_true", help="ours, one thread and two")
    parser.add_argument("--smoke", action="store_true", help="tiny models")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round")
    arguments = parser.parse_args()
    if arguments.iterations < 1 or arguments.tries < 1 or arguments.threads < 1:
        parser.error("iterations, threads and tries must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
