"""How far people who rated the same completions agree, and who is far off the others.

Two raters rank a pair of completions alike if both find the same one better or both find them
equal; half alike if only one of them finds them equal. Pairs of one item resemble each other, so
the bootstrap resamples whole items. Cohen's kappa is of the ratings, with quadratic weights: 0 by
chance, 1 if all are equal.

Of three or more raters, one is far off if the others agree among themselves more than with that
rater: by more than `FAR`, with 95% confidence, on at least `FEWEST` items each. So of two honest
raters and one who answers the opposite, only the latter is named, since the honest two agree least
among those that are left when one of them is left out. Where one of two raters is wrong, or half
of the raters are, nothing tells which, and nobody is named.

Source:
    Cohen, Weighted kappa (1968); Light, Measures of response agreement for qualitative data (1971),
    on the mean over pairs of raters.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.intervals import Floats, Interval, clustered_interval, wilson_interval
from tasks.labelling.items import Labels
from tasks.labelling.pairs import BEST, WORST

FAR, FEWEST = 0.1, 20
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of two raters, or of all pairs of raters together.

    Attributes:
        raters: The two names; none for all.
        items: That two raters rated; an item of three raters counts for each two of them.
        completions: Of these, rated by both.
        pairs: Of completions, ranked by both.
        alike: Share of the pairs that both rank alike, with its 95% interval.
        kappa: Of all the mean over pairs of raters, each by its completions; NaN where all ratings
            are one and the same.
    """

    raters: tuple[str, ...]
    items: int
    completions: int
    pairs: int
    alike: Interval
    kappa: float

    def metrics(self) -> dict[str, float]:
        """For MLflow; nothing where there is no number."""
        found = {**self.alike.metrics("feedback/agreement"), "feedback/kappa": self.kappa}
        return {name: value for name, value in found.items() if math.isfinite(value)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FarOff:
    """A rater who is far off the others.

    Attributes:
        alike: Share of the pairs that this rater and another one rank alike.
        difference: That share of the others among themselves minus `alike`, with its interval.
    """

    rater: str
    alike: float
    difference: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreements:
    """All that is known of a set of labels.

    Attributes:
        overall: None where no item has the ratings of two people.
    """

    overall: Agreement | None
    by_raters: tuple[Agreement, ...]
    far_off: tuple[FarOff, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterLabels:
    """How much a rater labelled.

    Attributes:
        ratings: Of completions.
        not_asked: Labels of items that were others' to rate.
        left_out: Whether they count for nothing.
    """

    rater: str
    labels: int
    ratings: int
    not_asked: int
    left_out: bool


def labels_by_rater(labels: Labels, left_out: Collection[str]) -> list[RaterLabels]:
    """Count the labels of each rater, also of those that are left out."""
    return [
        RaterLabels(
            rater=rater,
            labels=count,
            ratings=sum(len(row["ratings"]) - row["ratings"].count(None) for row in own),
            not_asked=sum(bool(row.get("asked")) and rater not in row["asked"] for row in own),
            left_out=rater in left_out,
        )
        for rater, count in sorted(labels.raters.items())
        for own in [[row for row in labels.rows if row["rater"] == rater]]
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """An item that two people rated.

    Attributes:
        alike: Pairs of completions that they rank alike, of `pairs`.
        ratings: Of both, of each completion that both rated.
    """

    item: str
    raters: tuple[str, str]
    alike: float
    pairs: int
    ratings: tuple[tuple[int, int], ...]


def measure_agreement(
    labels: Iterable[Mapping[str, Any]], resamples: int = RESAMPLES
) -> Agreements:
    """Compare the labels of people who rated the same items.

    Args:
        labels: Each with `key`, `rater`, `completions` and `ratings`.
        resamples: Of the items, for each interval.
    """
    shared = _shared(labels)
    raters = sorted({name for one in shared for name in one.raters})
    by_raters = []
    for two in itertools.combinations(raters, 2):
        own = [one for one in shared if one.raters == two]
        if own:
            by_raters.append(_agreement(two, own, _kappa(own), resamples))
    far_off = [_far_off(name, shared, resamples) for name in raters if len(raters) > 2]
    return Agreements(
        overall=_agreement((), shared, _mean_kappa(by_raters), resamples) if shared else None,
        by_raters=tuple(by_raters),
        far_off=tuple(one for one in far_off if one is not None),
    )


def _shared(labels: Iterable[Mapping[str, Any]]) -> list[_Shared]:
    """What any two raters both rated, as far as it can be ranked."""
    items: dict[str, dict[str, dict[str, int]]] = {}
    for label in labels:
        rated = zip(label["completions"], label["ratings"], strict=True)
        given = {text: rating for text, rating in rated if rating is not None}
        items.setdefault(label["key"], {})[label["rater"]] = given
    found = []
    for key, raters in items.items():
        for one, other in itertools.combinations(sorted(raters), 2):
            both = [text for text in raters[one] if text in raters[other]]
            ratings = tuple((raters[one][text], raters[other][text]) for text in both)
            alike = [
                1 - abs(_sign(a[0] - b[0]) - _sign(a[1] - b[1])) / 2
                for a, b in itertools.combinations(ratings, 2)
            ]
            if alike:
                found.append(
                    _Shared(
                        item=key,
                        raters=(one, other),
                        alike=sum(alike),
                        pairs=len(alike),
                        ratings=ratings,
                    )
                )
    return found


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _agreement(
    raters: tuple[str, ...], shared: Sequence[_Shared], kappa: float, resamples: int
) -> Agreement:
    return Agreement(
        raters=raters,
        items=len(shared),
        completions=sum(len(one.ratings) for one in shared),
        pairs=sum(one.pairs for one in shared),
        alike=_alike(shared, resamples),
        kappa=kappa,
    )


def _alike(shared: Sequence[_Shared], resamples: int) -> Interval:
    """The share ranked alike; where all or none are, resampling would find no spread."""
    table = np.array([[one.alike, one.pairs] for one in shared], dtype=np.float64)
    groups = np.unique([one.item for one in shared], return_inverse=True)[1]
    found = clustered_interval(table, _ratio, groups, resamples, seed=0)
    items = int(groups.max()) + 1
    return wilson_interval(round(found.mean * items), items) if found.mean in (0, 1) else found


def _ratio(sums: Floats) -> Floats:
    ratio: Floats = sums[:, 0] / sums[:, 1]
    return ratio


def _kappa(shared: Sequence[_Shared]) -> float:
    from sklearn.metrics import cohen_kappa_score  # a second to import

    one, other = np.array([both for item in shared for both in item.ratings]).T
    if len({*one, *other}) == 1:
        return math.nan
    scale = list(range(WORST, BEST + 1))
    return float(cohen_kappa_score(one, other, labels=scale, weights="quadratic"))


def _mean_kappa(found: Sequence[Agreement]) -> float:
    known = [one for one in found if math.isfinite(one.kappa)]
    weights = [one.completions for one in known]
    return float(np.average([one.kappa for one in known], weights=weights)) if known else math.nan


def _far_off(rater: str, shared: Sequence[_Shared], resamples: int) -> FarOff | None:
    """Compare a rater's agreement with the others to theirs among themselves."""
    own = [one for one in shared if rater in one.raters]
    others = [one for one in shared if rater not in one.raters]
    if min(len({one.item for one in side}) for side in (own, others)) < FEWEST:
        return None
    table = np.array(
        [[one.alike, one.pairs, 0, 0] for one in others]
        + [[0, 0, one.alike, one.pairs] for one in own],
        dtype=np.float64,
    )
    groups = np.unique([one.item for one in (*others, *own)], return_inverse=True)[1]
    found = clustered_interval(table, _difference, groups, resamples, seed=0)
    alike = sum(one.alike for one in own) / sum(one.pairs for one in own)
    return FarOff(rater=rater, alike=alike, difference=found) if found.low > FAR else None


def _difference(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # a resample without items of one side is left out
        difference: Floats = sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]
    return difference
