"""Planning: a run's own composition, with each stage only foretold.

Inside `planned()` a stage is named and looked up instead of computed: `run_stage` computes its
digest, notes it here and returns a reference to what is, or will be, published. Nothing is locked,
logged, shown, emitted or registered, and no Prefect server is asked. So what a run will reuse is
foretold by the very code that reuses it.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.run.spec import StageSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """A stage as it will be.

    Attributes:
        reused: Whether its result exists, here or in MLflow.
        metrics: Of the existing result; empty for a new one.
    """

    spec: "StageSpec"
    digest: str
    reused: bool
    metrics: Mapping[str, float] = field(default_factory=dict)


class NotYetKnown(dict[str, float]):
    """The metrics of a result that does not exist yet: each is NaN, which no check holds true."""

    def __missing__(self, name: str) -> float:
        return math.nan


_stages: ContextVar[list[PlannedStage] | None] = ContextVar("planned_stages", default=None)


@contextlib.contextmanager
def planned() -> Iterator[list[PlannedStage]]:
    """Only foretell stages during the block; the list fills in their order."""
    stages: list[PlannedStage] = []
    token = _stages.set(stages)
    try:
        yield stages
    finally:
        _stages.reset(token)


def planning() -> list[PlannedStage] | None:
    """The stages foretold so far; None where stages are really run."""
    return _stages.get()
