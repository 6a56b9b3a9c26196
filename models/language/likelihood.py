"""Held-out likelihood in the two units people compare: perplexity and bits per byte.

Perplexity depends on the tokenizer, bits per byte does not: models with different vocabularies
are compared by the latter. Apart from the evaluation of policies, so that a change there does not
count as a change of pretraining.
"""

import math


def perplexity(nll_sum: float, token_count: int) -> float:
    """Turn a summed negative log-likelihood into perplexity.

    Args:
        nll_sum: Sum of -ln p over all predicted tokens, nats.
        token_count: Predicted tokens.

    Returns:
        exp(nll_sum / token_count); NaN of no tokens, infinity beyond the largest float.
    """
    if token_count == 0:
        return math.nan
    try:
        return math.exp(nll_sum / token_count)
    except OverflowError:
        return math.inf


def bits_per_byte(nll_sum: float, byte_count: int) -> float:
    """Turn a summed negative log-likelihood into bits per byte of UTF-8 text.

    Args:
        nll_sum: Sum of -ln p over all predicted tokens, nats.
        byte_count: UTF-8 bytes of the text that these tokens spell.

    Returns:
        nll_sum / ln 2 / byte_count; NaN of no bytes.
    """
    return nll_sum / math.log(2) / byte_count if byte_count else math.nan
