"""How far raters agree: by hand, against scikit-learn, closed forms and many simulated raters."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tasks.labelling.agreement import FEWEST, measure_agreement
from tasks.labelling.items import Labels
from tests.tasks.labelling.raters import rated, share_right

NOISY = {"ann": 0.1, "bob": 0.2}
WITH_EVE = {**NOISY, "eve": 0.9}
"""The third mostly says the opposite of what is right."""


def label(key: str, rater: str, ratings: list[int | None]) -> dict[str, Any]:
    return {"key": key, "rater": rater, "completions": ["a", "b", "c"], "ratings": ratings}


def test_pairs_are_ranked_alike_in_full_in_half_or_not_at_all() -> None:
    rows = [
        label("1", "ann", [7, 4, 1]),
        label("1", "bob", [6, 2, 2]),  # a>b alike, a>c alike, b>c against a tie: 2.5 of 3
        label("2", "ann", [3, 3, None]),
        label("2", "bob", [5, 5, 1]),  # both find a and b equal: 1 of 1; c is not ann's
        label("3", "ann", [1, 2, 3]),  # nobody else's
        label("4", "ann", [1, None, None]),
        label("4", "bob", [1, 2, 3]),  # no pair that both ranked
    ]
    found = measure_agreement(rows)
    assert found.overall is not None
    assert (found.overall.items, found.overall.completions, found.overall.pairs) == (2, 5, 4)
    assert found.overall.alike.mean == 3.5 / 4
    assert [one.raters for one in found.by_raters] == [("ann", "bob")]
    assert found.far_off == ()


def test_completions_are_compared_by_their_text_whatever_their_order() -> None:
    turned = {**label("1", "bob", [1, 4, 7]), "completions": ["c", "b", "a"]}
    found = measure_agreement([label("1", "ann", [7, 4, 1]), turned])
    assert found.overall is not None
    assert found.overall.alike.mean == 1.0
    assert found.overall.kappa == 1.0


def test_nothing_is_known_where_no_item_was_rated_twice() -> None:
    found = measure_agreement([label("1", "ann", [1, 2, 3]), label("2", "bob", [1, 2, 3])])
    assert (found.overall, found.by_raters, found.far_off) == (None, (), ())


def test_kappa_is_scikit_learns_and_over_all_the_mean_over_pairs_of_raters() -> None:
    random = np.random.default_rng(0)
    raters = {name: random.integers(1, 8, (40, 3)) for name in ("ann", "bob", "cyd")}
    raters["bob"][:20] = raters["ann"][:20]
    rows = [label(f"{at}", name, list(map(int, one))) for name, all_ in raters.items()
            for at, one in enumerate(all_)]  # fmt: skip
    found = measure_agreement(rows)
    expected = {
        (one, other): cohen_kappa_score(
            raters[one].ravel(), raters[other].ravel(), weights="quadratic"
        )
        for one, other in (("ann", "bob"), ("ann", "cyd"), ("bob", "cyd"))
    }
    assert {one.raters: one.kappa for one in found.by_raters} == pytest.approx(expected)
    assert found.overall is not None
    assert found.overall.kappa == pytest.approx(np.mean(list(expected.values())))


def test_equal_ratings_have_no_kappa_and_full_agreement_a_width() -> None:
    rows = [label(f"{at}", name, [4, 4, 4]) for at in range(8) for name in ("ann", "bob")]
    overall = measure_agreement(rows).overall
    assert overall is not None
    assert math.isnan(overall.kappa)
    assert (overall.alike.mean, overall.alike.high) == (1.0, 1.0)
    assert overall.alike.low == pytest.approx(0.676, abs=0.001)  # 8 / (8 + 1.96²), by Wilson
    assert overall.metrics().keys() == {
        "feedback/agreement", "feedback/agreement_low", "feedback/agreement_high",
    }  # fmt: skip


def test_agreement_is_the_closed_form() -> None:
    """Two who err independently agree where both are right or both are wrong."""
    found = measure_agreement(rated(WITH_EVE, 3000, seed=0).rows)
    assert len(found.by_raters) == 3
    for two in found.by_raters:
        one, other = (WITH_EVE[name] for name in two.raters)
        expected = (1 - one) * (1 - other) + one * other
        assert two.alike.mean == pytest.approx(expected, abs=0.05)  # 1000 items: 3.2 deviations
        assert two.alike.low < expected < two.alike.high


# --- who is far off -----------------------------------------------------------------------------


def named(labels: Labels) -> set[str]:
    return {one.rater for one in measure_agreement(labels.rows, resamples=150).far_off}


def test_adversary_is_named_and_honest_raters_are_not() -> None:
    """Over 200 sets of 90 items that two of three rated: eve in most, the honest in none."""
    found = [named(rated(WITH_EVE, 90, seed)) for seed in range(200)]
    assert sum("eve" in one for one in found) >= 0.95 * 200
    assert not any(one - {"eve"} for one in found)


def test_of_honest_raters_hardly_one_is_named() -> None:
    """One of three in at most 5% of 100 sets, though one errs twice as often as the others."""
    errors = {"ann": 0.1, "bob": 0.1, "cyd": 0.2}
    assert sum(bool(named(rated(errors, 90, seed))) for seed in range(100)) <= 5


def test_nobody_is_named_where_nothing_tells_who_is_right() -> None:
    assert named(rated({"ann": 0.1, "eve": 0.9}, 300, seed=0)) == set()
    assert named(rated({"ann": 0.1, "bob": 0.1, "eve": 0.9, "eva": 0.9}, 300, seed=0)) == set()
    assert named(rated(WITH_EVE, 3 * (FEWEST - 1), seed=0)) == set()  # too few items


def test_leaving_out_the_adversary_raises_what_is_right() -> None:
    labels = rated(WITH_EVE, 300, seed=0)
    better = labels.without({"eve"})
    assert share_right(labels) == pytest.approx((0.9 + 0.8 + 0.1) / 3, abs=0.05)
    assert share_right(better) == pytest.approx((0.9 + 0.8) / 2, abs=0.05)
