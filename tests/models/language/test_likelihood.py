"""Perplexity and bits per byte by hand."""

import math

import pytest

from models.language.likelihood import bits_per_byte, perplexity


def test_perplexity_of_a_fair_choice_is_the_number_of_choices() -> None:
    # Three tokens of probability 1/8: 3 ln 8 nats, exp(ln 8) = 8.
    assert perplexity(3 * math.log(8), 3) == pytest.approx(8.0)


def test_bits_per_byte_spreads_the_bits_over_the_bytes() -> None:
    # Three tokens of probability 1/8 are 9 bits; they spell 6 bytes: 1.5.
    assert bits_per_byte(3 * math.log(8), 6) == pytest.approx(1.5)


def test_likelihood_is_nan_when_there_is_no_text() -> None:
    assert math.isnan(perplexity(0.0, 0))
    assert math.isnan(bits_per_byte(0.0, 0))


def test_perplexity_is_infinite_when_beyond_the_largest_float() -> None:
    assert perplexity(1000.0, 1) == math.inf
    assert math.isnan(perplexity(math.nan, 1))
