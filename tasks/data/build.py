"""The work of stage prepare: from raw rows to eight canonical files and a report.

Order: convert, clean and judge every row; bring all collections to one form (if any is
conversational, plain prompts become a user message and plain completions an assistant message, so
that every stage sees prompts alike); drop duplicates; hold out by content; drop training rows that
are held out. What a source does not give is derived: demonstrations from preferences (prompt and
chosen), prompts from demonstrations.

The world is taken as generated: it repeats facts on purpose, so duplicates stay.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import DataError
from models.rows import write_rows
from tasks.data.config import DataConfig
from tasks.data.formats import COLLECTIONS, Collection, Row, as_messages
from tasks.data.quality import (
    HELD_OUT,
    Tally,
    admit_rows,
    drop_duplicates,
    report_collection,
)
from tasks.data.report import OnProgress, PreparationReport, ignore_progress
from tasks.data.sources import RawData, fingerprint, read_raw
from tasks.data.split import Sides, cross_overlaps, drop_overlap, split_rows

# The world gives its own held-out prompts and pairs; this share of the rest is for perplexity.
_WORLD_HELDOUT_FRACTION = 0.02

_DERIVED_FROM: Mapping[Collection, Collection] = {
    "demonstrations": "preferences",
    "prompts": "demonstrations",
}

_Rows = dict[Collection, list[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _AdmittedRows:
    """Canonical rows by collection, in one form; `heldout` only where the source gives it."""

    train: _Rows
    heldout: _Rows
    contrasts: list[Row]
    tallies: dict[Collection, Tally]
    conversational: bool


def build_datasets(
    config: DataConfig, seed: int, out: Path, progress: OnProgress = ignore_progress
) -> PreparationReport:
    """Prepare all datasets of a pipeline.

    Writes ``{corpus,demonstrations,preferences,prompts}_{train,heldout}.jsonl`` and
    ``quality.json``, and ``contrasts.jsonl`` where the source has contrasts. Without a corpus
    (a folder or a hub source may have none) its two files are empty.

    Args:
        config: What to read and how to split.
        seed: Root seed, used by the world only.
        out: Folder to write into; created if missing.
        progress: Is told how far it is.

    Raises:
        DataError: If the source cannot be read or leaves a collection or a side of it empty.
    """
    admitted = _admit(config, read_raw(config, seed))
    datasets = _finish(config, admitted)
    report = PreparationReport(
        source=config.source,
        fingerprint=fingerprint(config),
        conversational=admitted.conversational,
        collections=tuple(
            report_collection(collection, admitted.tallies[collection], datasets[collection])
            for collection in COLLECTIONS
        ),
        contrasts=len(admitted.contrasts),
        overlaps=cross_overlaps(datasets),
    )
    _write(out, datasets, admitted.contrasts, report)
    return report


def _admit(config: DataConfig, raw: RawData) -> _AdmittedRows:
    tallies: dict[Collection, Tally] = {collection: Tally() for collection in COLLECTIONS}
    sides: list[_Rows] = [
        {
            collection: admit_rows(
                collection,
                part.rows,
                label=part.label,
                tally=tallies[collection],
                config=config,
            )
            for collection, part in parts.items()
        }
        for parts in (raw.train, raw.heldout)
    ]
    prompts = (row.get("prompt") for side in sides for rows in side.values() for row in rows)
    conversational = any(isinstance(prompt, list) for prompt in prompts)
    contrasts = raw.contrasts
    if conversational:
        contrasts = [as_messages(row) for row in contrasts]
        sides = [
            {collection: [as_messages(row) for row in rows] for collection, rows in side.items()}
            for side in sides
        ]
    train, heldout = sides
    _fill_margins(train, heldout)
    return _AdmittedRows(
        train=train,
        heldout=heldout,
        contrasts=contrasts,
        tallies=tallies,
        conversational=conversational,
    )


def _fill_margins(*sides: _Rows) -> None:
    """Give every pair a margin if one has it: 0 is the same loss, and the columns stay equal."""
    if any("margin" in row for rows in sides for row in rows.get("preferences", [])):
        for rows in sides:
            pairs = rows.get("preferences", [])
            pairs[:] = [{**row, "margin": row.get("margin", 0.0)} for row in pairs]


def _finish(config: DataConfig, admitted: _AdmittedRows) -> dict[Collection, Sides]:
    datasets: dict[Collection, Sides] = {"corpus": Sides(train=[], heldout=[])}
    for collection in ("corpus", "preferences", "demonstrations", "prompts"):
        if collection in _DERIVED_FROM and collection not in admitted.train:
            _derive(admitted, collection, datasets[_DERIVED_FROM[collection]])
        if collection in admitted.train:
            datasets[collection] = _hold_out(config, admitted, collection)
    return datasets


def _derive(admitted: _AdmittedRows, collection: Collection, source: Sides) -> None:
    """Derive a collection from another one; held-out rows of its own are kept."""

    def derived(row: Row) -> Row:
        completion = {"completion": row["chosen"]} if collection == "demonstrations" else {}
        return {"prompt": row["prompt"]} | completion

    tally = admitted.tallies[collection]
    tally.labels.append(_DERIVED_FROM[collection])
    tally.read += len(source.train)
    admitted.train[collection] = [derived(row) for row in source.train]
    if collection not in admitted.heldout:
        tally.read += len(source.heldout)
        admitted.heldout[collection] = [derived(row) for row in source.heldout]


def _hold_out(config: DataConfig, admitted: _AdmittedRows, collection: Collection) -> Sides:
    """Drop duplicates, split where no held-out rows are given, drop held-out training rows."""
    tally = admitted.tallies[collection]
    train = admitted.train[collection]
    heldout = admitted.heldout.get(collection)
    fraction = config.heldout_fraction
    if config.source == "world":
        fraction = _WORLD_HELDOUT_FRACTION
    else:
        train = drop_duplicates(collection, train, tally)
        heldout = None if heldout is None else drop_duplicates(collection, heldout, tally)
    if heldout is None:
        sides = split_rows(collection, train, fraction)
        train, heldout = sides.train, sides.heldout
    kept = drop_overlap(collection, train, heldout)
    tally.drop(HELD_OUT, len(train) - len(kept))
    # The world needs no training pairs: the annotator may give them later.
    if not heldout or not (kept or config.source == "world"):
        raise DataError(
            f"{collection} from {', '.join(tally.labels)}: got {len(kept)} training and "
            f"{len(heldout)} held-out rows out of {tally.read} read (dropped: "
            f"{dict(tally.dropped)}); wanted at least one of each, with different "
            f"{'texts' if collection == 'corpus' else 'prompts'}; add rows"
        )
    return Sides(train=kept, heldout=heldout)


def _write(
    out: Path, datasets: Mapping[Collection, Sides], contrasts: list[Row], report: PreparationReport
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for collection, sides in datasets.items():
        write_rows(out / f"{collection}_train.jsonl", sides.train)
        write_rows(out / f"{collection}_heldout.jsonl", sides.heldout)
    if contrasts:
        write_rows(out / "contrasts.jsonl", contrasts)
    quality = json.dumps(asdict(report), indent=2, ensure_ascii=False)
    (out / "quality.json").write_text(quality + "\n", encoding="utf-8")
