"""Time an iteration of PPO against TRL's last PPOTrainer: seconds, memory, tokens, the floor.

    python tests/benchmarks/ppo.py [--workloads S64 S128e M64] [--iterations 5] [--threads 2]
    python tests/benchmarks/ppo.py --scaling     # ours only: four times the rollouts, the model
    python tests/benchmarks/ppo.py --smoke       # does it run at all; the numbers mean nothing

Both sides run in turn in this one call, each in a process of its own, on the same weights, prompts
and order of prompts, with the same batches in fp32, after a warm-up: 4 minibatches an epoch, and 4
epochs or one (S64e1, S128e1, R135e1, and R135e1l with LoRA). The peer's environment is made on the
first call and kept. The floor is the FLOPs that the iteration needs (`flops.py` has the formula)
over the machine's rate of matrix multiplication, measured in the same call with the same threads.
Rounds in which other processes took more than 3% of the machine are measured again, and rows that
stay noisy are marked; on a busy machine `--threads 1` compares CPU seconds instead.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from peer_env import DEFAULT_FOLDER, peer_python
from report import (
    Comparison,
    machine_line,
    phases_table,
    scaling_table,
    seconds_table,
    tokens_table,
    write_rows,
)
from sides import Effort, Side, flops_per_second, run_side
from workloads import WORKLOADS

COMPARED = ("S64", "S128e", "M64")
SCALED = ("S64", "S64-rollouts-x4", "S64-model-x4")
SMOKE_COMPARED = ("smoke", "smoke-e", "smoke-l")
SMOKE_SCALED = ("smoke", "smoke-rollouts-x4")


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    effort = Effort(
        iterations=arguments.iterations, threads=arguments.threads, tries=arguments.tries
    )
    if arguments.scaling:
        about, sides = scale(arguments.workloads, effort)
    else:
        about, sides = compare(arguments.workloads, effort, arguments.peer_env)
    if arguments.json is not None:
        write_rows(arguments.json, about, sides)


def compare(
    names: list[str], effort: Effort, peer_env: Path
) -> tuple[str, dict[tuple[str, str], Side]]:
    """Run every workload on both sides and print the tables.

    Raises:
        SystemExit: The two sides did not start from the same weights.
    """
    peer, ours = peer_python(peer_env), Path(sys.executable)
    rate = flops_per_second(effort)
    comparisons = []
    for name in names:
        one = Comparison(
            name=name,
            peer=run_side(peer, "peer_ppo.py", name, effort),
            ours=run_side(ours, "own_ppo.py", name, effort),
        )
        if one.peer.header["weights"] != one.ours.header["weights"]:
            raise SystemExit(f"{name}: the two sides made different weights, nothing is comparable")
        comparisons.append(one)
    rate = max(rate, flops_per_second(effort))
    headers = {"peer": comparisons[0].peer.header, "ours": comparisons[0].ours.header}
    about = f"{machine_line(effort.threads, headers)}; matrices {rate / 1e9:.0f} GFLOP/s"
    print(f"PPO against TRL's, seconds an iteration: median (smallest–largest)\n\n{about}\n")
    print(seconds_table(comparisons, rate), end="\n\n")
    print("Tokens of an iteration; padded: what the actor is trained on an epoch, padding's share")
    print(f"\n{tokens_table(comparisons)}\n\nPhases, medians\n\n{phases_table(comparisons)}")
    return about, {
        (one.name, side): found
        for one in comparisons
        for side, found in (("peer", one.peer), ("ours", one.ours))
    }


def scale(names: list[str], effort: Effort) -> tuple[str, dict[tuple[str, str], Side]]:
    """Run our side on growing workloads and print how its cost grows."""
    ours = {name: run_side(Path(sys.executable), "own_ppo.py", name, effort) for name in names}
    about = machine_line(effort.threads, {"ours": ours[names[0]].header})
    print(f"PPO, how cost grows\n\n{about}\n\n{scaling_table(ours)}")
    return about, {(name, "ours"): side for name, side in ours.items()}


def _arguments() -> Namespace:
    parser = ArgumentParser(description="Time PPO against TRL's last PPOTrainer.")
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, help="default: S64, S128e and M64"
    )
    parser.add_argument("--iterations", type=int, default=5, help="measured, after a warm-up")
    parser.add_argument("--threads", type=int, default=2, help="1 compares CPU seconds")
    parser.add_argument("--tries", type=int, default=3, help="of a round while it is noisy")
    parser.add_argument("--peer-env", type=Path, default=DEFAULT_FOLDER, metavar="DIR")
    parser.add_argument("--scaling", action="store_true", help="ours only, on growing workloads")
    parser.add_argument("--smoke", action="store_true", help="tiny workloads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round")
    arguments = parser.parse_args()
    usual = {
        (False, False): COMPARED,
        (False, True): SMOKE_COMPARED,
        (True, False): SCALED,
        (True, True): SMOKE_SCALED,
    }[arguments.scaling, arguments.smoke]
    arguments.workloads = arguments.workloads or list(usual)
    if arguments.iterations < 1 or arguments.tries < 1 or arguments.threads < 1:
        parser.error("iterations, threads and tries must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
