"""How reports look: tables of Markdown; the pictures' colours, sizes, axes, and repeatable bytes.

Colours are of the Okabe-Ito palette, which colour-blind readers can tell apart; sizes stay legible
when a picture is shown 800 pixels wide. Matplotlib is imported when a picture is drawn: it takes
half a second, which a run that finds all finished does not have to wait.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.statistics.intervals import Interval
from tasks.escaping import for_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
RUN_COLOURS = (*COLOURS, "#E69F00", "#56B4E9", "#000000")
"""One a compared run; the palette's yellow is left out, for on white it cannot be seen."""
INK, QUIET = "#222222", "#777777"
CELL = 160
"""Characters of a completion in a table; MLflow takes 8,000 in all."""

_GRID = "#E4E4E4"
_DOTS_PER_INCH = 200


def new_figure(width: float, height: float) -> "Figure":
    """Make an empty figure of a size in inches; an inch is a hundred pixels at 800 wide."""
    from matplotlib import rcParams  # half a second to import: only where something is drawn
    from matplotlib.figure import Figure

    rcParams["text.parse_math"] = False  # a dollar in a name is no formula
    return Figure(
        figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained", facecolor="white"
    )


def style_axes(axes: Any, title: str, x_label: str, y_label: str) -> None:
    """Give axes their title, labels and a quiet grid."""
    axes.set_title(title, fontsize=12, color=INK, loc="left")
    axes.set_xlabel(x_label, fontsize=11, color=INK)
    axes.set_ylabel(y_label, fontsize=11, color=INK)
    axes.tick_params(labelsize=10, colors=INK, length=3)
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)


def add_legend(axes: Any, handles: Sequence[Any] | None = None) -> None:
    """Add a legend where the data leave room."""
    legend = axes.legend(handles=handles, fontsize=10, frameon=True, labelcolor=INK)
    legend.get_frame().set(edgecolor="none", alpha=0.85)


def legend_entry(label: str, **look: Any) -> "Line2D":
    """What a legend shows of something that was drawn otherwise."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **look)


def add_title(figure: "Figure", text: str) -> None:
    """Give a figure its headline."""
    figure.suptitle(text, fontsize=13, fontweight="bold", color=INK)


def smooth(values: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Running mean over as many neighbours on each side."""
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def say_empty(axes: Any, text: str = "no finite numbers") -> None:
    """Say that there is nothing to draw, rather than show empty axes."""
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, ha="center", color=QUIET, transform=axes.transAxes)


def save_png(figure: "Figure", path: Path) -> None:
    """Write a PNG that depends on nothing but the drawing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    text_columns: int = 1,
    text_last: bool = False,
) -> str:
    """Write a table.

    Args:
        header: Names of the columns.
        rows: Their cells; a bar in one would end it and is escaped by `cell` only.
        text_columns: How many of the first columns are texts; the others are aligned as numbers.
        text_last: Whether the last column is text too: a long one there hides no number.
    """
    rules = ["---" if index < text_columns else "---:" for index in range(len(header))]
    if text_last:
        rules[-1] = "---"
    lines = [header, rules, *rows]
    return "\n".join(f"| {' | '.join(str(one) for one in line)} |" for line in lines)


def cell(text: str, characters: int) -> str:
    """Fit foreign text into a cell or a sentence: one line, cut, nothing of it obeyed."""
    return for_markdown(text, characters)


def with_interval(interval: Interval | None, digits: int) -> str:
    """A mean with its interval in brackets, as far as they are known; a dash for none."""
    if interval is None or not math.isfinite(interval.mean):
        return "–"
    text = number(interval.mean, digits)
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return text
    return f"{text} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def gain_text(gain: Interval) -> str:
    """A gain with signs and its interval, or a dash where there is none."""
    return str(gain) if math.isfinite(gain.mean) else "–"


def mean_in_words(mean: float) -> str:
    """A mean of a picture's samples: three digits or, of a large one, all before the point."""
    return (f"{mean:,.0f}" if abs(mean) >= 99.95 else f"{mean:#.3g}").replace("-", "−")


def number(value: float, digits: int) -> str:
    """A number, or a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
