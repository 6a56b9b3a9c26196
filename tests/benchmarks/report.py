"""Tables of what was measured: medians with their range, ratios, tokens, memory, phases."""

import json
import os
import platform
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flops import iteration_flops
from sides import Side
from workloads import WORKLOADS

PHASES = ("sampling", "judging", "update")
UNKNOWN = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One workload on both sides."""

    name: str
    peer: Side
    ours: Side

    @property
    def title(self) -> str:
        """The name, and a warning where neighbours disturbed the measurement."""
        return marked(self.name, self.peer, self.ours)


def marked(name: str, *sides: Side) -> str:
    """Append a warning to a name where a side stayed noisy."""
    if not any(side.noisy for side in sides):
        return name
    worst = max(row["foreign_share"] for side in sides for row in side.counted)
    return f"{name} NOISY (others took up to {worst:.0%})"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table, the first column to the left and the others to the right."""
    cells = [list(headers), *map(list, rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(headers))]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join([first, *rest])} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Write median, smallest and largest value."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def machine_line(threads: int, headers: Mapping[str, Mapping[str, Any]]) -> str:
    """Say where, when and with what was measured."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*: (.*)", info.read_text())
        cpu = found[1] if found else cpu
    said = [
        f"{side}: " + ", ".join(f"{name} {number}" for name, number in header["versions"].items())
        for side, header in headers.items()
    ]
    unit = "CPU seconds" if threads == 1 else "wall seconds"
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {cpu}, {os.cpu_count()} cores; "
        f"{threads} thread{'s' * (threads > 1)}, {unit}, fp32; {'; '.join(said)}"
    )


def write_rows(path: Path, about: str, sides: Mapping[tuple[str, str], Side]) -> None:
    """Write every round, refused ones included, as JSON; keys are (what, side)."""
    rows = [
        {"what": what, "side": name, **row}
        for (what, name), side in sides.items()
        for row in side.rows
    ]
    path.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def needed_flops(name: str, side: Side) -> float:
    """Median FLOPs that an iteration needs."""
    return statistics.median(
        iteration_flops(WORKLOADS[name], row["prompt_lengths"], row["new_tokens"])
        for row in side.counted
    )


def seconds_table(comparisons: Sequence[Comparison], rate: float) -> str:
    """Seconds an iteration on each side, their ratio, and the floor."""
    rows = []
    for one in comparisons:
        peer, ours = one.peer.seconds(), one.ours.seconds()
        ratio = statistics.median(peer) / statistics.median(ours)
        per_token = ratio * _real_tokens(one.ours) / _real_tokens(one.peer)
        floor = needed_flops(one.name, one.ours) / rate
        rows.append(
            [
                one.title,
                spread(peer),
                spread(ours),
                f"{ratio:.2f}",
                f"{per_token:.2f}",
                f"{floor:.2f}",
                f"{statistics.median(ours) / floor:.2f}",
            ]
        )
    headers = "workload|peer, s|ours, s|ratio|ratio a token|floor, s|ours / floor"
    return table(headers.split("|"), rows)


def tokens_table(comparisons: Sequence[Comparison]) -> str:
    """Real and computed tokens of an epoch, peak memory, and the speed of sampling."""
    rows = []
    for one in comparisons:
        speeds = [_sampling_rate(side) for side in (one.peer, one.ours)]
        rows.append(
            [
                one.title,
                *(f"{_real_tokens(side):,.0f}" for side in (one.peer, one.ours)),
                *(_padded_tokens(side) for side in (one.peer, one.ours)),
                f"{one.peer.peak_mib:,.0f}",
                f"{one.ours.peak_mib:,.0f}",
                f"{one.peer.peak_mib / one.ours.peak_mib:.2f}",
                *(f"{speed:,.0f}" for speed in speeds),
                f"{speeds[1] / speeds[0]:.2f}",
            ]
        )
    headers = (
        "workload|real tokens: peer|ours|padded: peer|ours|peak MiB: peer|ours|ratio"
        "|new tokens/s: peer|ours|ratio"
    )
    return table(headers.split("|"), rows)


def phases_table(comparisons: Sequence[Comparison]) -> str:
    """Where the seconds of an iteration go: medians of each phase."""
    rows = []
    for one in comparisons:
        for name, side in (("peer", one.peer), ("ours", one.ours)):
            split = [_phases(row) for row in side.counted]
            medians = [statistics.median(parts[phase] for parts in split) for phase in split[0]]
            rows.append([one.title, name, *(f"{seconds:.2f}" for seconds in medians)])
    return table(["workload", "side", *(f"{phase}, s" for phase in (*PHASES, "rest"))], rows)


def scaling_table(sides: Mapping[str, Side]) -> str:
    """Growth of our cost against growth of the needed FLOPs; the first is the base."""
    base, rows = next(iter(sides)), []
    for name, side in sides.items():
        cost = statistics.median(side.seconds()) / statistics.median(sides[base].seconds())
        flops = needed_flops(name, side) / needed_flops(base, sides[base])
        rows.append(
            [
                marked(name, side),
                spread(side.seconds()),
                f"{needed_flops(name, side) / 1e9:,.0f}",
                f"{cost:.2f}",
                f"{flops:.2f}",
                f"{cost / flops:.2f}",
                f"{side.peak_mib:,.0f}",
            ]
        )
    headers = "workload|ours, s|GFLOP|cost growth|FLOP growth|cost / FLOP|peak MiB"
    return table(headers.split("|"), rows)


def _real_tokens(side: Side) -> float:
    """Median prompt and completion tokens of an iteration."""
    return statistics.median(
        float(sum(row["prompt_lengths"]) + row["new_tokens"]) for row in side.counted
    )


def _padded_tokens(side: Side) -> str:
    """Tokens that the actor was trained on in an epoch, padding included, and its share."""
    computed = side.median("trained_tokens")
    if not computed:
        return UNKNOWN  # the trunk was not called as a module
    return f"{computed:,.0f} ({max(0.0, 1 - _real_tokens(side) / computed):.0%})"


def _sampling_rate(side: Side) -> float:
    return statistics.median(
        float(row["new_tokens"] / row["phases"]["sampling"]) for row in side.counted
    )


def _phases(row: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by phase; what the peer does apart from sampling and judging is its update."""
    known = row["phases"]
    before = known["sampling"] + known["judging"]
    update = known.get("update", row["seconds"] - before)
    return {
        "sampling": known["sampling"],
        "judging": known["judging"],
        "update": update,
        "rest": max(0.0, row["seconds"] - before - update),
    }
