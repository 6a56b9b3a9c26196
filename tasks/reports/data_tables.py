"""Tables of the data's page: lengths, repeats, preferences, languages; empty without rows."""

from collections.abc import Iterator, Sequence

from tasks.data.inspection.records import (
    UNSURE,
    Inspection,
    Languages,
    Leak,
    PairNumbers,
    Truncation,
    percent,
)
from tasks.data.report import PreparationReport
from tasks.reports.style import cell, table

EXAMPLE = 100
"""Characters of a text in a cell."""
MOST_LANGUAGES = 4


def lengths_table(report: PreparationReport) -> str:
    """Characters of all rows; words, and tokens where a tokenizer is known, of samples."""
    inspected = {one.name: one.columns for one in report.inspection.collections}
    has_tokens = any(one.tokens for columns in inspected.values() for one in columns.values())
    header = ["collection", "column", "characters: median", "95%", "longest", "words: median"]
    header += ["tokens: median", "95%", "longest", "total"] if has_tokens else []
    rows: list[list[object]] = []
    for each in report.collections:
        for column, lengths in each.lengths.items():
            row: list[object] = [each.name, column, f"{lengths.median:.0f}", f"{lengths.p95:.0f}"]
            found = inspected.get(each.name, {}).get(column)
            row += [lengths.maximum, f"{found.words.median:.0f}" if found else ""]
            if has_tokens:
                sizes = found and found.tokens
                row += (
                    [f"{sizes.median:.0f}", f"{sizes.p95:.0f}", sizes.maximum, f"{sizes.total:,}"]
                    if sizes
                    else [""] * 4
                )
            rows.append(row)
    return table(header, rows, text_columns=2) if rows else "none"


def truncation_table(truncations: Sequence[Truncation]) -> str:
    """What limits in tokens do to samples."""
    if not truncations:
        return ""
    return table(
        ("collection", "limit in tokens", "sampled", "prompt cut", "left out", "equal sides"),
        [(t.collection, t.limit, t.rows, t.cut, t.dropped, t.equal) for t in truncations],
    )


def preferences_text(inspection: Inspection) -> str:
    """What the preferences have in common."""
    pairs = inspection.pairs
    if pairs is None:
        return ""
    rows = list(_pair_rows(pairs))
    if inspection.agreement is not None:
        found = inspection.agreement
        rows.append(
            ("two judgements of one pair agree", f"{found.equal:.1%} ({found.pairs} such pairs)")
        )
    margins = ", ".join(f"{margin}: {count}" for margin, count in pairs.margins.items())
    if margins:
        rows.append(("pairs by margin", margins))
    return table(("preferences", ""), rows)


def _pair_rows(pairs: PairNumbers) -> Iterator[tuple[str, str]]:
    yield "pairs", str(pairs.pairs)
    yield "ties", str(pairs.ties)
    yield "prompts", str(pairs.prompts)
    yield "pairs per prompt", f"{(pairs.pairs + pairs.ties) / pairs.prompts:.1f}"
    yield "most pairs of one prompt", str(pairs.most_pairs)
    if pairs.unequal:
        share = pairs.chosen_longer()
        interval = f"{share.mean:.1%} [{share.low:.1%}, {share.high:.1%}]"
        yield "chosen is longer, of the pairs of unequal length", interval
    yield "equally long", str(pairs.equal_length)
    if pairs.first_difference is not None:
        place = pairs.first_difference
        yield (
            "the two sides differ from character",
            f"{place.median:.0f} on (median; 95%: {place.p95:.0f})",
        )


def leaks_table(leaks: Sequence[Leak]) -> str:
    """Which held-out rows stand in which training rows."""
    if not leaks:
        return ""
    return table(
        ("held out", "in training rows of", "compared", "rows", "equal", "nearly", "share",
         "example"),
        [
            (
                one.heldout, one.train, f"{one.what}s", one.rows, one.exact, one.near,
                percent((one.exact + one.near) / one.rows),
                cell(one.examples[0].first, EXAMPLE) if one.examples else "",
            )
            for one in leaks
        ],
        text_columns=3,
        text_last=True,
    )  # fmt: skip


def near_duplicates_table(inspection: Inspection) -> str:
    """Examples of training rows that nearly repeat another one."""
    rows = [
        (
            each.name,
            f"{match.similarity:.2f}",
            cell(match.first, EXAMPLE),
            cell(match.second, EXAMPLE),
        )
        for each in inspection.collections
        for match in each.near_duplicates.examples
    ]
    if not rows:
        return ""
    counts = ", ".join(
        f"{each.near_duplicates.rows} {each.name}"
        for each in inspection.collections
        if each.near_duplicates.rows
    )
    return "\n\n".join(
        (
            "## Near duplicates",
            f"Training rows that nearly repeat another one: {counts}.",
            table(("collection", "similarity", "text", "another text"), rows, text_columns=4),
        )
    )


def languages_table(inspection: Inspection) -> str:
    """Languages and scripts of samples."""
    rows = [
        (each.name, side, _shares(languages), languages.texts)
        for each in inspection.collections
        for side, languages in (("train", each.languages), ("held out", each.heldout_languages))
        if languages.texts
    ]
    if not rows:
        return ""
    return "\n\n".join(
        ("## Languages", table(("collection", "rows", "languages", "texts"), rows, text_columns=3))
    )


def _shares(languages: Languages) -> str:
    """The most frequent languages; where it is unsure, scripts."""
    known = [
        f"{name} {percent(share)}" for name, share in languages.shares.items() if name != UNSURE
    ]
    shown, others = known[:MOST_LANGUAGES], len(known) - MOST_LANGUAGES
    parts = [*shown, *([f"{others} others"] if others > 0 else [])]
    unsure = languages.shares.get(UNSURE, 0.0)
    if unsure:
        scripts = ", ".join(languages.scripts)
        parts.append(f"unsure {percent(unsure)} ({scripts})")
    return ", ".join(parts)
