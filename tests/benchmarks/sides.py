"""Runs one side of a comparison as a process of its own and reads the rounds that it prints.

A process a side, so that peak memory is the side's alone and no import of one reaches the other.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        iterations: Rounds after the warm-up.
        threads: Of the computation; 1 compares CPU seconds.
        tries: Most times that a noisy round is measured.
    """

    iterations: int
    threads: int
    tries: int


@dataclass(slots=True, kw_only=True)
class Side:
    """What one process printed.

    Attributes:
        header: Versions and, where networks were made, a digest of their weights.
        rows: Every round in order, warm-up and refused ones included.
    """

    header: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def counted(self) -> list[dict[str, Any]]:
        """Of each round after the warm-up the quietest try."""
        best: dict[int, dict[str, Any]] = {}
        for row in self.rows:
            known = best.get(row["round"])
            if row["round"] and (not known or row["foreign_share"] < known["foreign_share"]):
                best[row["round"]] = row
        return list(best.values())

    @property
    def noisy(self) -> bool:
        """Whether a round stayed noisy however often it was tried."""
        return any(row["noisy"] for row in self.counted)

    @property
    def peak_mib(self) -> float:
        """Peak resident memory of the process."""
        return float(max(row["peak_mib"] for row in self.rows))

    def seconds(self) -> list[float]:
        """Of each counted round."""
        return [row["seconds"] for row in self.counted]

    def rates(self, tokens: str) -> list[float]:
        """Tokens a second of each counted round; `tokens` names their count in a row."""
        return [row[tokens] / row["seconds"] for row in self.counted]

    def median(self, name: str) -> float:
        """Median of a number in the rows."""
        return statistics.median(float(row[name]) for row in self.counted)


def run_side(python: Path, script: str, what: str, effort: Effort, side: str = "") -> Side:
    """Run a measuring script to its end and show a line a round on stderr.

    Raises:
        SystemExit: The script failed or ended early; its last words are shown.
    """
    command = [str(python), str(HERE / script), what, f"--side={side}"]
    command += [f"--iterations={effort.iterations}", f"--threads={effort.threads}"]
    command += [f"--tries={effort.tries}"]
    found = Side()
    with tempfile.TemporaryFile("w+") as complaints:
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=_environment(effort.threads),
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.startswith('{"'):
                    continue  # the side's own chatter
                row = json.loads(line)
                if "round" in row:
                    found.rows.append(row)
                    _show(f"{script} {what} {side}", row)
                else:
                    found.header = row
        complaints.seek(0)
        if process.returncode or len(found.counted) != effort.iterations:
            raise SystemExit(f"{script} {what} {side} failed:\n{complaints.read()[-4000:]}")
    return found


def flops_per_second(effort: Effort) -> float:
    """Measure the machine's rate of matrix multiplication with so many threads."""
    found = run_side(Path(sys.executable), "flops.py", "gemm", replace(effort, iterations=0))
    return float(found.header["flops_per_second"])


def _environment(threads: int) -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _show(name: str, row: dict[str, Any]) -> None:
    refused = " REFUSED" if row["noisy"] else ""
    print(
        f"{name} round {row['round']}: {row['seconds']:.2f} s, "
        f"others {row['foreign_share']:.1%}{refused}",
        file=sys.stderr,
        flush=True,
    )
