"""Judges: whoever scores or compares completions, as the evaluation sees them.

A *pointwise* judge gives every completion a score; win rates compare the scores. A *pairwise* judge
is shown two completions of one prompt and prefers one: a language model, people, or the annotator
who writes preferences for the reward model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from models.evaluation.samples import Samples
from models.language.text import Content
from models.statistics.intervals import Flags, Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """What a pointwise judge says of one model's samples.

    Attributes:
        score: The better the higher, (prompts, samples).
        aspects: Further numbers by name, such as `polite`, (prompts, samples); NaN where one does
            not apply.
        good: Whether a sample is as good as it can be, (prompts, samples); None where the judge
            cannot tell.
    """

    score: Floats
    aspects: Mapping[str, Floats] = field(default_factory=dict)
    good: Flags | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two completions of one prompt, to be compared."""

    prompt: Content
    first: Content
    second: Content

    def to_row(self, preference: float) -> dict[str, Any] | None:
        """The canonical preference row; None where nobody was preferred."""
        if preference not in (0.0, 1.0):
            return None
        chosen, rejected = self.first, self.second
        if preference == 0.0:
            chosen, rejected = rejected, chosen
        return {"prompt": self.prompt, "chosen": chosen, "rejected": rejected}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preferences:
    """What a pairwise judge says of pairs.

    Attributes:
        preference: 1 where the first completion is preferred, 0 where the second is, 0.5 for a tie,
            NaN where the judge abstains, (pairs,).
        facts: How far the judge can be trusted, such as the share of answers that followed the
            position; names to finite numbers.
    """

    preference: Floats
    facts: Mapping[str, float] = field(default_factory=dict)


class PointwiseJudge(Protocol):
    """Anyone who gives a completion a score."""

    def score(self, prompts: Sequence[Content], samples: Samples, model: Path) -> Scores:
        """Score every sample of a model; `model` is its folder."""


@runtime_checkable
class PairwiseJudge(Protocol):
    """Anyone who prefers one of two completions."""

    def compare(self, pairs: Sequence[Pair]) -> Preferences:
        """Compare each pair, in the order given."""


class Annotator(PairwiseJudge, Protocol):
    """A pairwise judge whose preferences a reward model learns from."""

    def describe(self) -> dict[str, Any]:
        """Say in plain values who compares and how reliably, for the dataset's report."""


Judge: TypeAlias = PointwiseJudge | PairwiseJudge
