"""Memory as a table by stage, role and part: for the terminal, a run's page and a deployment."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flows.planning.costs import Known
from flows.planning.memory import MemoryPart, Scale, peak
from flows.planning.needs import memory_of

PARTS = (
    "weights",
    "gathered",
    "gradients",
    "optimiser",
    "activations",
    "logits",
    "KV cache",
    "rollout",
    "EMA",
)
LARGE = 10 * 2**30
"""Bytes from which on GiB are easier to read than MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of texts; the first two columns are words, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def memory_table(known: Known, scale: Scale, stages: Iterable[str]) -> Table:
    """What networks hold, of those stages that train or sample, by role and part.

    The last column is the most that a stage holds at one time: not all parts are there together.
    """
    found = {stage: memory_of(stage, known, scale) for stage in stages}
    most = {stage: peak(parts, scale) for stage, parts in found.items() if parts}
    large = max(most.values(), default=0) >= LARGE
    unit, name = (2**30, "GiB") if large else (2**20, "MiB")
    used = {part.what for parts in found.values() for part in parts}
    columns = [what for what in PARTS if what in used]
    rows = []
    for stage in most:
        for index, (role, sizes) in enumerate(_by_role(found[stage]).items()):
            cells = (_digits(sizes.get(what, 0) / unit) for what in columns)
            total = "" if index else _digits(most[stage] / unit)
            rows.append(("" if index else stage, role, *cells, total))
    each = " in each process" if scale.replicas * scale.tensor_parallel > 1 else ""
    return Table(
        title=f"Networks in memory{each}, {name}",
        header=("stage", "role", *columns, "at once"),
        rows=rows,
    )


def _by_role(parts: Iterable[MemoryPart]) -> dict[str, dict[str, int]]:
    """Of several passes the larger."""
    roles: dict[str, dict[str, int]] = {}
    for part in parts:
        sizes = roles.setdefault(part.role, {})
        sizes[part.what] = max(part.size, sizes.get(part.what, 0))
    return roles


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value else ""


def number(value: float | None) -> str:
    """Three digits and a thousand's name: 1.36 M; empty for nothing."""
    for name in ("", "k", "M", "G", "T", "P"):
        if value and value >= 999.5 and name != "P":
            value /= 1000
        elif value:
            return f"{value:.3g} {name}".strip()
    return ""
