"""A lineage in words and as a picture: one box a stage, with lines from what it used.

Whatever a stage was used for hangs on one line at the right of the boxes, like the branches of a
log; what only the next stage uses is an arrow down. So the picture stays legible however much is
made from one piece of data.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.registry.records import Record
from tasks.reports.style import BLUE, COLOURS, INK, QUIET, new_figure, save_png
from tasks.results.digests import DIGEST

SHOWN = 12
"""Characters of a digest that people see."""

ROW, BOX_HEIGHT, BOX_WIDTH, GAP, LANE = 1.06, 0.78, 5.2, 2.0, 0.3
"""Inches, which are the picture's data units too."""


def draw_lineage(records: Sequence[Record], path: Path) -> None:
    """Draw a lineage, in the order that `tasks.registry.lineage.trace` gives, as a PNG."""
    rows = {one.digest: row for row, one in enumerate(records)}
    lanes = _lanes(records, rows)
    count = len(set(lanes.values()))
    width = BOX_WIDTH + GAP + LANE * count
    step = min(0.15, 0.5 / max(1, count))
    figure = new_figure(width, ROW * len(records) + 0.1)
    figure.set_layout_engine("none")  # boxes in inches need no room for labels
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, width - 0.1), ylim=(ROW * len(records) - 0.45, -0.55))
    axes.axis("off")
    for digest, lane in lanes.items():
        _draw_line(axes, records, rows, digest, lane, step)
    for row, one in enumerate(records):
        _draw_box(axes, one, row)
        _draw_step_down(axes, records, rows, row)
    save_png(figure, path)


def _targets(records: Sequence[Record], rows: dict[str, int], digest: str) -> dict[int, list[str]]:
    """Rows that use a record, with the roles they use it in."""
    targets: dict[int, list[str]] = {}
    for one in records:
        for role, used in one.inputs.items():
            if used == digest:
                targets.setdefault(rows[one.digest], []).append(role)
    return targets


def _lanes(records: Sequence[Record], rows: dict[str, int]) -> dict[str, int]:
    """A lane for each record that others than the next one use; lanes are used again below."""
    ends: list[int] = []
    lanes: dict[str, int] = {}
    for row, one in enumerate(records):
        last = max(_targets(records, rows, one.digest), default=row)
        if last <= row + 1:
            continue
        free = next((lane for lane, end in enumerate(ends) if end < row), len(ends))
        ends[free : free + 1] = [last]
        lanes[one.digest] = free
    return lanes


def _draw_line(
    axes: Any, records: Sequence[Record], rows: dict[str, int], digest: str, lane: int, step: float
) -> None:
    colour = COLOURS[lane % len(COLOURS)]
    start = rows[digest] * ROW + 0.32  # leaves below where lines arrive
    x = BOX_WIDTH + GAP + LANE * lane
    above = lane * step - 0.28
    targets = _targets(records, rows, digest)
    axes.plot([BOX_WIDTH, x], [start, start], color=colour, linewidth=1.6)
    axes.plot([x, x], [start, max(targets) * ROW + above], color=colour, linewidth=1.6)
    for row, roles in targets.items():
        ends = {"xy": (BOX_WIDTH, row * ROW + above), "xytext": (x, row * ROW + above)}
        axes.annotate("", **ends, arrowprops=_arrow(colour))
        _say_roles(axes, BOX_WIDTH + 0.2, row * ROW + above, roles, colour)


def _draw_step_down(axes: Any, records: Sequence[Record], rows: dict[str, int], row: int) -> None:
    targets = _targets(records, rows, records[row].digest)
    if list(targets) != [row + 1]:
        return
    ends = {
        "xy": (BOX_WIDTH / 2, (row + 1) * ROW - BOX_HEIGHT / 2),
        "xytext": (BOX_WIDTH / 2, row * ROW + BOX_HEIGHT / 2),
    }
    axes.annotate("", **ends, arrowprops=_arrow(INK))
    _say_roles(axes, BOX_WIDTH / 2 + 0.1, (row + 0.5) * ROW, targets[row + 1], INK)


def _arrow(colour: str) -> dict[str, Any]:
    return {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}


def _say_roles(axes: Any, x: float, y: float, roles: Sequence[str], colour: str) -> None:
    back = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    text = ", ".join(role.replace("_", " ") for role in roles)
    axes.text(x, y, text, fontsize=8.5, color=colour, va="center", bbox=back, zorder=4)


def _draw_box(axes: Any, one: Record, row: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    known = one.state == "published"
    axes.add_patch(
        FancyBboxPatch(
            (0, row * ROW - BOX_HEIGHT / 2), BOX_WIDTH, BOX_HEIGHT, zorder=2,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor="#E8F1F8" if one.asked else "white",
            edgecolor=BLUE if one.asked else INK if known else QUIET,
            linewidth=2.2 if one.asked else 1.2, linestyle="-" if known else "--",
        )
    )  # fmt: skip
    top, middle, low = row * ROW - 0.2, row * ROW + 0.03, row * ROW + 0.23
    say = {"zorder": 3, "va": "center"}
    axes.text(0.15, top, title(one), fontsize=12, fontweight="bold", color=INK, **say)
    axes.text(
        BOX_WIDTH - 0.15, top, short(one.digest)[:40], fontsize=10, color=QUIET, ha="right",
        family="monospace", **say,
    )  # fmt: skip
    run = f"MLflow run {one.run_id[:8]}" if one.run_id else ""
    facts = "   ".join(part for part in (date(one), run) if part)
    if not known:
        facts = "made outside" if one.state == "outside" else "neither store nor MLflow know it"
    axes.text(0.15, middle, facts, fontsize=9.5, color=QUIET, **say)
    axes.text(0.15, low, "   ".join(numbers(one)[:4]), fontsize=9.5, color=INK, **say)


def title(record: Record) -> str:
    """Name a record in a word or two."""
    if record.state == "published":
        return ", ".join(filter(None, (record.stage, record.removed)))
    return record.state if not record.stage else f"{record.stage} ({record.state})"


def short(digest: str) -> str:
    """Shorten a digest for people; names from outside only where they are digests."""
    return digest[:SHOWN] if DIGEST.fullmatch(digest) else digest


def date(record: Record) -> str:
    """When a record was made, to the minute, in UTC."""
    return f"{record.made:%Y-%m-%d %H:%M}" if record.made else ""


def numbers(record: Record) -> list[str]:
    """The key metrics in words, without their group."""
    return [
        f"{name.split('/')[-1]} {value:,.0f}"
        if float(value).is_integer()
        else f"{name.split('/')[-1]} {value:.4g}"
        for name, value in record.metrics.items()
    ]


def sources(record: Record, known: Mapping[str, Record]) -> list[str]:
    """What a record was made from, in words: the roles of each input and which one it is."""
    roles: dict[str, list[str]] = {}
    for role, digest in record.inputs.items():
        roles.setdefault(digest, []).append(role)
    return [
        f"{' and '.join(names)}: {title(known[digest])} {short(digest)}"
        if digest in known
        else f"{' and '.join(names)}: {short(digest)}"
        for digest, names in roles.items()
    ]
