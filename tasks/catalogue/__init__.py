"""One row a stage: what it is called, which numbers and curves stand for it, what it reads.

    chain · beside   the rows: from data to the verdict; models from elsewhere and comparisons
    entries          what a row may say

The only table of stages. A new stage gets a row here and is then named in reports, shown on its
pipeline's run, compared and drawn like the others; machinery and views know no stage by name.
"""

from collections.abc import Mapping

from tasks.catalogue.beside import BESIDE
from tasks.catalogue.chain import CHAIN
from tasks.catalogue.entries import DATASETS, HELD_OUT, TRAIN, Card, Curve, Entry, KeyMetric, Role

__all__ = [
    "CATALOGUE",
    "DATASETS",
    "HELD_OUT",
    "TRAIN",
    "Card",
    "Curve",
    "Entry",
    "KeyMetric",
    "Role",
    "entry",
    "stages_for",
]

CATALOGUE: Mapping[str, Entry] = {**CHAIN, **BESIDE}


def entry(stage: str) -> Entry:
    """The row of a stage; a plain one for a stage that has none yet."""
    return CATALOGUE.get(stage) or Entry(title=stage)


def stages_for(role: Role) -> tuple[str, ...]:
    """The stages whose model fits a role, those that are made for it first."""
    own = [name for name, row in CATALOGUE.items() if row.role == role]
    return (*own, *(name for name, row in CATALOGUE.items() if role in row.also))
