"""How completions end: against regressions by numpy, and where the truth is known."""

import math

import numpy as np
import pytest

from models.reward.endings import Endings, limit_wanted, measure_endings
from models.statistics.controlled import Extent
from models.statistics.intervals import Floats


def drawn(prompts: int = 60, samples: int = 8, limit: int = 40) -> tuple[Floats, Extent]:
    """Scores that rise by 0.03 a token and by 1.8 for an ending; lengths are geometric."""
    generator = np.random.default_rng(0)
    lengths = generator.geometric(0.03, (prompts, samples)).astype(float)
    ended = lengths <= limit
    extent = Extent(lengths=np.minimum(lengths, limit), ended=ended)
    own = generator.normal(0, 2, (prompts, 1))
    noise = generator.normal(0, 0.5, lengths.shape)
    return own + 0.03 * extent.lengths + 1.8 * ended + noise, extent


def measured(scores: Floats, extent: Extent, limit: int = 40) -> Endings:
    return measure_endings(scores, extent, limit, resamples=300, seed=0)


def test_the_score_is_regressed_within_prompts() -> None:
    scores, extent = drawn()
    found = measured(scores, extent)
    prompts = np.repeat(np.eye(60), 8, axis=0)  # a column for each prompt: fixed effects
    design = np.column_stack([extent.lengths.ravel(), extent.ended.ravel(), prompts])
    wanted = np.linalg.lstsq(design, scores.ravel(), rcond=None)[0]
    assert found.per_tokens.mean == pytest.approx(10 * wanted[0], rel=1e-9)
    assert found.for_ending.mean == pytest.approx(wanted[1], rel=1e-9)
    assert found.per_tokens.low < 0.3 < found.per_tokens.high
    assert found.for_ending.low < 1.8 < found.for_ending.high
    assert found.ended.mean == extent.ended.mean()
    assert found.length.mean == pytest.approx(extent.lengths.mean())
    assert found.few


def test_the_limit_wanted_is_that_of_geometric_lengths() -> None:
    """1 - 0.97^n reaches 0.95 at n = 98.4."""
    _, extent = drawn(prompts=4000, samples=4)
    assert limit_wanted(extent, 40) == pytest.approx(98, abs=6)


def test_a_limit_that_is_enough_is_kept() -> None:
    extent = Extent(lengths=np.full((5, 4), 9.0), ended=np.ones((5, 4), bool))
    found = measured(np.zeros((5, 4)), extent)
    assert (found.wanted, found.few) == (40.0, False)
    assert math.isnan(found.for_ending.mean)  # none is cut
    assert "reward_quality/score_for_ending" not in found.metrics()


def test_completions_that_never_end_tell_no_limit() -> None:
    extent = Extent(lengths=np.full((5, 4), 40.0), ended=np.zeros((5, 4), bool))
    found = measured(np.zeros((5, 4)), extent)
    assert math.isnan(found.wanted)
    assert (found.ended.mean, found.few) == (0.0, True)
    assert found.metrics()["reward_quality/sft_length"] == 40.0
