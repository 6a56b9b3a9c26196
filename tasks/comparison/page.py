"""The comparison laid out: one HTML file that needs nothing beside it, and Markdown for Prefect.

Every text comes from runs, prompts and models that strangers may have written: all of it is
escaped.
"""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.comparison.compare_tables import Contents, Sample, Table
from tasks.reports.style import RUN_COLOURS
from tasks.run.pictures import picture_data
from tasks.run.reporting import table_cell

CELL = 160
"""Characters of a Markdown table's cell."""

SHOWN_IN_MARKDOWN = 5
"""Prompts of the Markdown, whose reader wants the short form."""

PICTURES = {
    "frontier": (
        "Score against distance",
        "Each small dot is a PPO iteration; the big marks are the final policies on held-out "
        "prompts. A policy that climbs on the left and falls on the right has learned to please "
        "its reward model, not the judge: over-optimisation.",
    ),
    "win_rates": ("Win rates", ""),
    "spread": (
        "Scores and lengths",
        "One completion a held-out prompt. A narrow peak at the highest scores with little "
        "variety, or lengths far from SFT's, are signs of a hacked reward.",
    ),
    "ppo": ("Learning curves: PPO", ""),
    "stages": ("Learning curves: the stages before", ""),
}
"""Headline and reading help of each picture, in the report's order."""

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
  color: #222; background: #fff; max-width: 1080px; margin: 0 auto; padding: 28px 24px 80px; }
h1 { font-size: 28px; margin: 0 0 4px; }
h2 { font-size: 21px; margin: 44px 0 8px; border-top: 1px solid #ddd; padding-top: 18px; }
p { max-width: 92ch; margin: 8px 0; }
.quiet { color: #666; font-size: 14px; }
.best { font-size: 18px; background: #f3f6fa; border-left: 5px solid #0072B2;
  padding: 12px 18px; margin: 18px 0; max-width: none; }
.runs { list-style: none; padding: 0; margin: 14px 0; }
.runs li { margin: 3px 0; overflow-wrap: anywhere; }
.key { display: inline-block; min-width: 1.5em; text-align: center; color: #fff;
  font-weight: 700; border-radius: 4px; padding: 0 5px; margin-right: 8px; font-size: 14px; }
.scroll { overflow-x: auto; } .whole { white-space: nowrap; }
table { border-collapse: collapse; margin: 12px 0; font-size: 14.5px; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid #e4e4e4;
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: #555; border-bottom: 2px solid #bbb; }
.accepted { color: #00694c; font-weight: 600; } .rejected { color: #a84300; font-weight: 600; }
img { width: 100%; max-width: 1040px; height: auto; display: block; margin: 12px 0; }
.prompt { border: 1px solid #e0e0e0; border-radius: 8px; padding: 12px 16px; margin: 14px 0; }
.prompt > b { display: block; margin-bottom: 8px; overflow-wrap: anywhere; }
.said { display: grid; grid-template-columns: 74px 1fr 190px; gap: 4px 12px; padding: 4px 0;
  border-top: 1px solid #f0f0f0; }
.said span { white-space: pre-wrap; overflow-wrap: anywhere; }
.said i { font-style: normal; color: #666; font-size: 13.5px; text-align: right; }
"""


def to_html(contents: Contents, pictures: Mapping[str, Path], *, title: str) -> str:
    """Lay out the report as one HTML page with its pictures inside.

    Args:
        contents: What it says.
        pictures: The drawn pictures, by the names of `PICTURES`.
        title: Of the page.
    """
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p class='quiet'>{len(contents.labels)} pipeline runs compared by Quartet.</p>",
        _runs(contents.labels),
        f"<p class='best'>{_text(contents.best.sentence)}</p>",
        _table(contents.headline),
        "<p class='quiet'>Gains are over each run's own SFT model, with 95% intervals that "
        "resample prompts; × is the policy's number over its SFT model's. Seconds are those of the "
        "run; stages that it found finished cost it nothing.</p>",
        *(f"<p><b>Note.</b> {_text(note)}</p>" for note in contents.notes),
        *_reasons(contents.reasons),
        *_parameters(contents),
    ]
    for name, (headline, reading) in PICTURES.items():
        if name not in pictures:
            continue
        parts.append(f"<h2>{_text(headline)}</h2>")
        parts += [f"<p class='quiet'>{_text(reading)}</p>"] if reading else []
        seen = contents.finding if name == "frontier" and contents.finding else headline
        parts.append(f"<img alt='{_text(seen)}' src='{picture_data(pictures[name])}'>")
        parts += [_table(contents.wins), _how_won()] if name == "win_rates" else []
    if "win_rates" not in pictures:
        parts += ["<h2>Win rates</h2>", _table(contents.wins)]
    parts += _samples(contents)
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def to_markdown(contents: Contents, pictures: Mapping[str, Path], *, title: str) -> str:
    """Write the report's short form as Markdown; pictures only if some are given."""
    lines = [f"# {_plain(title)}", ""]
    lines += [f"- **{_plain(label)}**" for label in contents.labels]
    lines += ["", f"**{_plain(contents.best.sentence)}**", "", *_rows(contents.headline), ""]
    lines += [f"Note: {_plain(note)}\n" for note in contents.notes]
    for who, sentences in contents.reasons:
        lines += [f"{who} was rejected:", "", *(f"- {_plain(one)}" for one in sentences), ""]
    lines += ["## Parameters that differ", ""]
    lines += _rows(contents.parameters) if contents.parameters.rows else ["None."]
    lines += ["", f"{contents.parameters_equal} parameters are equal.", ""]
    for name, (headline, _) in PICTURES.items():
        if name in pictures:
            lines += [f"## {headline}", ""]
            lines += [f"![{headline}]({picture_data(pictures[name])})", ""]
    lines += [] if pictures else [_plain(contents.finding), ""]  # else the picture says it
    lines += ["## Win rates", "", *_rows(contents.wins), "", "## The same prompts", ""]
    for sample in contents.samples[:SHOWN_IN_MARKDOWN]:
        lines += [f"**{_plain(table_cell(sample.prompt, CELL))}**", ""]
        lines += _rows(Table(header=("", "completion", "judged"), rows=sample.completions))
        lines.append("")
    return "\n".join(lines)


def _runs(labels: Sequence[str]) -> str:
    items = []
    for label in labels:
        key, _, name = label.partition(": ")
        items.append(f"<li>{_key(key)}{_text(name)}</li>")
    return f"<ul class='runs'>{''.join(items)}</ul>"


def _key(key: str) -> str:
    """A run's letter on its colour; a name of its own kind stays plain."""
    if len(key) != 1 or not 0 <= ord(key) - ord("A") < len(RUN_COLOURS):
        return f"<b>{_text(key)}</b>"
    colour = RUN_COLOURS[ord(key) - ord("A")]
    return f"<span class='key' style='background:{colour}'>{key}</span>"


def _reasons(reasons: Sequence[tuple[str, list[str]]]) -> list[str]:
    parts = []
    for who, sentences in reasons:
        items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
        parts.append(f"<p>{_key(who)}Why it was rejected:</p><ul>{items}</ul>")
    return parts


def _parameters(contents: Contents) -> list[str]:
    differ = contents.parameters.rows
    parts = ["<h2>What differs</h2>"]
    parts.append(_table(contents.parameters) if differ else "<p>No parameter differs.</p>")
    parts.append(f"<p class='quiet'>{contents.parameters_equal} parameters are equal.</p>")
    return parts + ([_table(contents.facts)] if contents.facts.rows else [])


def _how_won() -> str:
    return (
        "<p class='quiet'>One completion of each model a prompt, the same prompts for both sides; "
        "a tie counts half. Intervals resample prompts. Where an interval crosses 50%, nothing "
        "tells which is better.</p>"
    )


def _samples(contents: Contents) -> list[str]:
    if not contents.samples:
        return []
    parts = [
        "<h2>The same prompts, side by side</h2>",
        f"<p class='quiet'>{len(contents.samples)} of {contents.prompts} held-out prompts that all "
        "evaluated runs completed; chosen at even distances among those on which they differ.</p>",
    ]
    return parts + [_sample(sample) for sample in contents.samples]


def _sample(sample: Sample) -> str:
    rows = "".join(
        f"<div class='said'>{_key(who)}<span>{_text(said)}</span><i>{_text(judged)}</i></div>"
        for who, said, judged in sample.completions
    )
    return f"<div class='prompt'><b>{_text(sample.prompt)}</b>{rows}</div>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.header)
    rows = "".join(
        f"<tr><td>{_first(row[0])}</td>{''.join(map(_cell, row[1:]))}</tr>" for row in table.rows
    )
    return f"<div class='scroll'><table><tr>{head}</tr>{rows}</table></div>"


def _first(text: str) -> str:
    """A row's name; a run's letter has its colour here too."""
    return _key(text) if len(text) == 1 else _text(text)


def _cell(text: str) -> str:
    kind = f" class='{text}'" if text in ("accepted", "rejected") else ""
    whole = re.sub(
        r"\[[^<\]]*\]", lambda found: f"<span class='whole'>{found[0]}</span>", _text(text)
    )
    return f"<td{kind}>{whole}</td>"


def _rows(table: Table) -> list[str]:
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    return [
        "| " + " | ".join(_plain(table_cell(cell, CELL)) for cell in line) + " |" for line in lines
    ]


def _plain(text: str) -> str:
    """Text in which Markdown finds no tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _text(text: str) -> str:
    return html.escape(text, quote=True)
