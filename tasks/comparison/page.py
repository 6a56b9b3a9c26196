"""The comparison laid out: one HTML file that needs nothing beside it, and Markdown for Prefect.

Every text comes from runs, prompts and models that strangers may have written: all of it is
escaped.
"""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.comparison.runs import letter
from tasks.comparison.statistics import keep_whole
from tasks.comparison.tables import Contents, Table
from tasks.reports.markdown import cell
from tasks.reports.style import RUN_COLOURS
from tasks.run.spec import picture_data

CELL = 160
"""Characters of a Markdown table's cell."""

SHOWN_IN_MARKDOWN = 5
"""Prompts of the Markdown, the short form."""

SECTIONS = {
    "frontier": (
        "Score against distance",
        "Each small dot is a PPO iteration; the big marks are the final policies on held-out "
        "prompts. A policy that climbs on the left and falls on the right has learned to please "
        "its reward model, not the judge: over-optimisation.",
    ),
    "win_rates": (
        "Win rates",
        "One completion of each model per prompt, the same prompts for both sides; a tie counts "
        "half. Intervals resample prompts. Where an interval crosses 50%, nothing tells which is "
        "better.",
    ),
    "spread": (
        "Scores and lengths",
        "One completion per held-out prompt. A narrow peak at the highest scores with little "
        "variety, or lengths far from SFT's, are signs of a hacked reward.",
    ),
    "ppo": ("Learning curves: PPO", ""),
    "stages": ("Learning curves: the stages before", ""),
}
"""Headline and reading help of each picture, in the report's order."""


def to_html(contents: Contents, pictures: Mapping[str, Path], *, title: str) -> str:
    """Lay out the report as one HTML page with its pictures, named as in `SECTIONS`, inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"whole": keep_whole, "address": picture_data}
    colours = {letter(index): colour for index, colour in enumerate(RUN_COLOURS)}
    return environment.get_template("page.html.j2").render(
        contents=contents, pictures=pictures, sections=SECTIONS, colours=colours, title=title
    )


def to_markdown(contents: Contents, pictures: Mapping[str, Path], *, title: str) -> str:
    """Write the report's short form as Markdown; pictures only if some are given."""
    lines = [f"# {_plain(title)}", ""]
    lines += [f"- **{_plain(label)}**" for label in contents.labels]
    lines += ["", f"**{_plain(contents.best.sentence)}**", "", *_rows(contents.headline), ""]
    lines += [f"Note: {_plain(note)}\n" for note in contents.notes]
    for who, sentences in contents.reasons:
        lines += [f"{who} was not accepted:", "", *(f"- {_plain(one)}" for one in sentences), ""]
    lines += ["## Parameters that differ", ""]
    lines += _rows(contents.parameters) if contents.parameters.rows else ["None."]
    lines += ["", f"{contents.parameters_equal} parameters are equal.", ""]
    if not pictures:  # the picture says it otherwise
        lines += [_plain(contents.finding), ""]
    for name, (headline, _) in SECTIONS.items():
        if name in pictures:
            lines += [f"## {headline}", "", f"![{headline}]({picture_data(pictures[name])})", ""]
        if name == "win_rates":
            lines += [] if name in pictures else [f"## {headline}", ""]
            lines += [*_rows(contents.wins), ""]
    lines += ["## The same prompts", ""]
    for prompt, completions in contents.samples[:SHOWN_IN_MARKDOWN]:
        lines += [f"**{_plain(cell(prompt, CELL))}**", "", *_rows(completions), ""]
    return "\n".join(lines)


def _rows(table: Table) -> list[str]:
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return ["| " + " | ".join(_plain(cell(text, CELL)) for text in line) + " |" for line in lines]


def _plain(text: str) -> str:
    """Text in which Markdown finds no tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
