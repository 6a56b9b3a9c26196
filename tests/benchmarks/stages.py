"""Time SFT, reward modelling and sampling against what TRL and transformers do by default.

    python tests/benchmarks/stages.py [--stages sft reward sampling] [--iterations 5] [--threads 2]
    python tests/benchmarks/stages.py --smoke    # does it run at all; the numbers mean nothing

Both sides run in turn, each in a process of its own, in the project's environment: the stages as
the pipeline calls them against TRL's trainers with their default collators on the same rows with
the same batch size, and `sample_completions` against `generate` with scores on the same prompts;
float32, no recomputation. Only tokens that count are counted: real ones in training, new ones up
to EOS in sampling. Noise is handled as in `ppo.py`.
"""

import statistics
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from report import machine_line, marked, spread, table, write_rows
from sides import Effort, Side, run_side

STAGES = {
    "sft": ("sft:S",),
    "reward": ("reward:S",),
    "sampling": ("sampling:S64", "sampling:S128e"),
}
SMOKE = {
    "sft": ("sft:tiny",),
    "reward": ("reward:tiny",),
    "sampling": ("sampling:smoke", "sampling:smoke-e"),
}


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    effort = Effort(
        iterations=arguments.iterations, threads=arguments.threads, tries=arguments.tries
    )
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
    if arguments.json is not None:
        write_rows(arguments.json, about, sides)


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
    parser = ArgumentParser(description="Time SFT, reward modelling and sampling.")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--iterations", type=int, default=5, help="measured, after a warm-up")
    parser.add_argument("--threads", type=int, default=2, help="1 compares CPU seconds")
    parser.add_argument("--tries", type=int, default=3, help="of a round while it is noisy")
    parser.add_argument("--smoke", action="store_true", help="tiny models")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round")
    arguments = parser.parse_args()
    if arguments.iterations < 1 or arguments.tries < 1 or arguments.threads < 1:
        parser.error("iterations, threads and tries must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
