"""Time texts to packed blocks against `datasets.map` with the same tokenizer; see memory stay flat.

    python tests/benchmarks/blocks.py [--iterations 5] [--threads 2] [--megabytes 32]
    python tests/benchmarks/blocks.py --memory 2000   # megabytes of text: peak memory, second time
    python tests/benchmarks/blocks.py --smoke         # does it run at all; the numbers mean nothing

All sides pack the same generated texts, in turn, each in a process of its own: `corpus_blocks` into
an empty cache; `datasets.map(batched=True, num_proc=threads)` as transformers' example run_clm.py
has it, one map that tokenises and one that groups; and the quickest form of it that was found, both
in one map without attention masks. Reading JSON is part of ours; theirs begin at Arrow files. Noise
is handled as in `ppo.py`.
"""

import statistics
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from report import machine_line, marked, spread, table
from sides import Effort, Side, run_side

SIDES = ("run_clm", "one_map", "ours")


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    effort = Effort(
        iterations=arguments.iterations, threads=arguments.threads, tries=arguments.tries
    )
    with tempfile.TemporaryDirectory(prefix="blocks-") as folder:
        if arguments.memory:
            _memory(arguments.memory, Path(folder), effort)
            return
        what = f"{arguments.megabytes}:{folder}"
        _prepare(what)
        sides = {
            side: run_side(Path(sys.executable), "block_sides.py", what, effort, side)
            for side in SIDES
        }
    tokens = [side.header["tokens"] for side in sides.values()]
    if min(tokens) < 0.99 * max(tokens):  # run_clm.py drops what is left of every thousand rows
        raise SystemExit(f"the sides made {tokens} tokens, nothing is comparable")
    print("Texts to packed blocks, MB of text a second\n")
    print(machine_line(effort.threads, {"all": sides["ours"].header}) + "\n")
    print(table(["side", "MB/s", "ours against it"], list(map(list, _rows(sides)))))


def _rows(sides: dict[str, Side]) -> list[tuple[str, ...]]:
    rates = {name: side.rates("megabytes") for name, side in sides.items()}
    ours = statistics.median(rates["ours"])
    return [
        (
            marked(name, side),
            spread(rates[name], digits=1),
            f"{ours / statistics.median(rates[name]):.2f}",
        )
        for name, side in sides.items()
    ]


def _prepare(what: str) -> None:
    once = Effort(iterations=0, threads=1, tries=1)
    run_side(Path(sys.executable), "block_sides.py", what, once, "prepare")


def _memory(megabytes: int, folder: Path, effort: Effort) -> None:
    """Show peak memory by size of the corpus: of training a tokenizer, of blocks, and again."""
    rows = []
    for size in (megabytes // 10, megabytes):
        _prepare(f"{size}:{folder}")
        for side in ("tokenizer", "ours", "again"):
            found = run_side(
                Path(sys.executable), "block_sides.py", f"{size}:{folder}",
                Effort(iterations=0, threads=effort.threads, tries=1), side,
            )  # fmt: skip
            [row] = found.rows
            rows.append([f"{size} MB", side, f"{row['seconds']:.1f}", f"{row['peak_mib']:,.0f}"])
    print(table(["text", "what", "seconds", "peak MiB"], rows))


def _arguments() -> Namespace:
    parser = ArgumentParser(description="Time texts to packed blocks.")
    parser.add_argument("--iterations", type=int, default=5, help="measured, after a warm-up")
    parser.add_argument("--threads", type=int, default=2, help="1 compares CPU seconds")
    parser.add_argument("--tries", type=int, default=3, help="of a round while it is noisy")
    parser.add_argument("--megabytes", type=int, default=32, help="of text")
    parser.add_argument("--memory", type=int, metavar="MEGABYTES", help="peak memory instead")
    parser.add_argument("--smoke", action="store_true", help="one megabyte, one round")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.megabytes, arguments.iterations, arguments.tries = 1, 1, 1
    if min(arguments.iterations, arguments.tries, arguments.threads, arguments.megabytes) < 1:
        parser.error("iterations, tries, threads and megabytes must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
