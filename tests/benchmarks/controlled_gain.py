"""How often a gain at equal length and ending is found, where the truth is known.

    python tests/benchmarks/controlled_gain.py [--draws 2000] [--prompts 128 512] [--samples 1 4]

Each row is a simulated kind of evaluation, the worst over all likings of length: how often the
interval lies above zero (false where there is no gain), and how often it covers the truth.
"""

import argparse

import numpy as np

from models.statistics.controlled import controlled_gain
from tests.models.statistics.simulated import CASES, LIKINGS, draw


def main() -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(description="Coverage of the gain at equal length.")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--prompts", nargs="*", type=int, default=[128, 512])
    parser.add_argument("--samples", nargs="*", type=int, default=[1, 4])
    given = parser.parse_args()
    print("| prompts | samples | case | found, fewest to most | covered, fewest to most |")
    print("|---|---|---|---|---|")
    for prompts in given.prompts:
        for samples in given.samples:
            for name, case in CASES.items():
                found, covered = [], []
                for liking in LIKINGS:
                    generator = np.random.default_rng(0)
                    drawn = [
                        controlled_gain(*draw(case, liking, prompts, samples, generator))
                        for _ in range(given.draws)
                    ]
                    found.append(np.mean([one.low > 0 for one in drawn]))
                    covered.append(np.mean([one.low <= case.gain <= one.high for one in drawn]))
                print(
                    f"| {prompts} | {samples} | {name} | {min(found):.3f} to {max(found):.3f} | "
                    f"{min(covered):.3f} to {max(covered):.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
