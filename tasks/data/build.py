"""The work of stage prepare: from raw rows to eight canonical files and a report.

Order: convert, clean and judge every row, once, into spools on disk; bring all collections to one
form (if any is conversational, plain prompts become a user message and plain completions an
assistant message, so that every stage sees prompts alike); drop duplicates; hold out by content;
drop training rows that are held out; repeat what weights repeat; write. What a source does not give
is derived: demonstrations from preferences (prompt and chosen), prompts from demonstrations.

The world is taken as generated: it repeats facts on purpose, so duplicates stay.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from models.errors import DataError
from models.files import listed
from models.rows import iterate_rows, write_rows
from tasks.data.config import DataConfig
from tasks.data.formats import COLLECTIONS, Collection
from tasks.data.inspection.inspector import inspect_datasets
from tasks.data.inspection.pairs import find_agreement
from tasks.data.inspection.records import Agreement, Inspection, TokenLimits
from tasks.data.report import OnProgress, PreparationReport, ignore_progress
from tasks.data.sources import corpus_weights, fingerprint, read_raw
from tasks.data.spools.mixture import mix
from tasks.data.spools.selection import (
    Selection,
    Sides,
    cross_overlaps,
    drop_duplicates,
    drop_overlap,
    split,
)
from tasks.data.spools.spool import BEATEN, TIED, TURNED, Spool
from tasks.data.spools.spooling import Spooled, spool_rows
from tasks.data.tally import FileTally

# The world gives its own held-out prompts and pairs; this share of the rest is for perplexity.
_WORLD_HELDOUT_FRACTION = 0.02

_DERIVED_FROM: Mapping[Collection, Collection] = {
    "demonstrations": "preferences",
    "prompts": "demonstrations",
}


def build_datasets(
    config: DataConfig,
    seed: int,
    out: Path,
    progress: OnProgress = ignore_progress,
    *,
    inspected: bool = True,
    alone: bool = False,
    limits: TokenLimits | None = None,
) -> PreparationReport:
    """Prepare all datasets of a pipeline.

    Writes ``{corpus,demonstrations,preferences,prompts}_{train,heldout}.jsonl`` and
    ``quality.json``, and ``contrasts.jsonl`` where the source has contrasts. Without a corpus
    (a folder or named sources may have none) its two files are empty.

    Args:
        config: What to read and how to split.
        seed: Root seed, used by the world only.
        out: Folder to write into; created if missing.
        progress: Is told how far it is.
        inspected: Whether the written datasets are looked at for the report, which takes as long
            again; their rows are the same.
        alone: Only look at what is given: nothing is derived, and a collection may stay empty.
        limits: A tokenizer and its limits, to count tokens too.

    Raises:
        DataError: If the source cannot be read or leaves a collection or a side of it empty.
    """
    raw = read_raw(config, seed)
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".spool-", dir=out) as scratch:
            spooled = spool_rows(config, raw, Path(scratch), progress)
            datasets = _decide(config, spooled, alone)
            return _written(config, spooled, datasets, out, inspected=inspected, limits=limits)
    except BaseException:
        if is_new:
            shutil.rmtree(out, ignore_errors=True)
        raise


def _written(
    config: DataConfig,
    spooled: Spooled,
    datasets: Mapping[Collection, Sides],
    out: Path,
    *,
    inspected: bool,
    limits: TokenLimits | None,
) -> PreparationReport:
    for collection, sides in datasets.items():
        sides.train.write(out / f"{collection}_train.jsonl")
        sides.heldout.write(out / f"{collection}_heldout.jsonl")
    if spooled.contrasts:
        write_rows(out / "contrasts.jsonl", spooled.contrasts)
    report = PreparationReport(
        source=config.source,
        fingerprint=fingerprint(config),
        conversational=spooled.conversational,
        collections=tuple(
            spooled.tallies[collection].report(
                collection,
                train=len(datasets[collection].train),
                heldout=len(datasets[collection].heldout),
                lengths=datasets[collection].lengths(),
            )
            for collection in COLLECTIONS
        ),
        contrasts=len(spooled.contrasts),
        overlaps=cross_overlaps(datasets, iterate_rows(out / "preferences_heldout.jsonl")),
        inspection=(
            inspect_datasets(out, agreement=_agreement(spooled), limits=limits)
            if inspected
            else Inspection()
        ),
    )
    quality = json.dumps(asdict(report), indent=2, ensure_ascii=False)
    # Half characters, in names of files and columns, have no UTF-8, but an escape in JSON.
    (out / "quality.json").write_text(quality + "\n", encoding="utf-8", errors="backslashreplace")
    return report


def _agreement(spooled: Spooled) -> Agreement | None:
    """How far the judgements agree of pairs that were read more than once."""
    spools = [
        side["preferences"] for side in (spooled.train, spooled.heldout) if "preferences" in side
    ]
    if not spools:
        return None
    pairs = np.concatenate([spool.contents for spool in spools])
    flags = np.concatenate([spool.flags for spool in spools])
    judged = (flags & TIED) == 0
    return find_agreement(pairs[judged], (flags[judged] & TURNED) > 0)


def _decide(config: DataConfig, spooled: Spooled, alone: bool) -> dict[Collection, Sides]:
    """Choose the rows of each side; what a source does not give is derived."""
    nothing = Selection.all_of(spooled.new("corpus", "none"))
    datasets = dict.fromkeys(COLLECTIONS, Sides(train=nothing, heldout=nothing))
    for collection in ("corpus", "preferences", "demonstrations", "prompts"):
        if collection in _DERIVED_FROM and collection not in spooled.train and not alone:
            _derive(spooled, collection, datasets[_DERIVED_FROM[collection]])
        if collection in {*spooled.train, *spooled.heldout}:
            datasets[collection] = _hold_out(config, spooled, collection, alone)
    if config.corpus:
        tally = spooled.tallies["corpus"]
        sides = datasets["corpus"]
        mixed = mix(sides.train, corpus_weights(config), tally)
        datasets["corpus"] = Sides(train=mixed, heldout=sides.heldout)
    return datasets


def _derive(spooled: Spooled, collection: Collection, source: Sides) -> None:
    """Derive a collection from another one; held-out rows of its own are kept.

    The chosen completion of a tie, or one that lost to another of its ranking, is no demonstration.
    """
    tally = spooled.tallies[collection]
    origin = _DERIVED_FROM[collection]
    tally.labels.append(origin)

    def derived(rows: Selection, side: str) -> Spool:
        spool = spooled.new(collection, side)
        spool.begin(FileTally(label=f"{origin}_{side}"))
        for index, row in rows.rows():
            if spool.collection == "prompts":
                spool.add(index + 1, {"prompt": row["prompt"]})
            elif not rows.spool.flags[index] & (TIED | BEATEN):
                spool.add(index + 1, {"prompt": row["prompt"], "completion": row["chosen"]})
        tally.read += len(spool)
        return spool

    spooled.train[collection] = derived(source.train, "train")
    if collection not in spooled.heldout:
        spooled.heldout[collection] = derived(source.heldout, "heldout")


def _hold_out(config: DataConfig, spooled: Spooled, collection: Collection, alone: bool) -> Sides:
    """Drop duplicates, split where no held-out rows are given, drop held-out training rows."""
    tally = spooled.tallies[collection]
    is_world = config.source == "world"
    if collection not in spooled.train:
        spooled.train[collection] = spooled.new(collection, "none")
        spooled.train[collection].begin(FileTally(label="nothing"))
    train = Selection.all_of(spooled.train[collection])
    if not is_world:
        train = drop_duplicates(train, tally)
    if collection in spooled.heldout:
        heldout = Selection.all_of(spooled.heldout[collection])
        sides = Sides(train=train, heldout=heldout if is_world else drop_duplicates(heldout, tally))
    else:
        sides = split(train, _WORLD_HELDOUT_FRACTION if is_world else config.heldout_fraction)
    sides = drop_overlap(sides, tally)
    # The world needs no training pairs: the annotator may give them later.
    if not alone and (not len(sides.heldout) or not (len(sides.train) or is_world)):
        raise DataError(
            f"{collection} from {listed(tally.labels)}: got {len(sides.train)} training and "
            f"{len(sides.heldout)} held-out rows out of {tally.read} read (dropped: "
            f"{dict(tally.dropped)}); wanted at least one of each, with different "
            f"{'texts' if collection == 'corpus' else 'prompts'}; add rows"
        )
    return sides
