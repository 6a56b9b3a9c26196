"""Diversity: whether a policy still says different things, measured by counting.

Part of the evaluation of PPO against SFT: a policy that earns its score with one sentence for
every prompt has not learned the task. Distinct-n falls with the amount of text, and in a
templated world it also falls for a sound reason, because poor wordings disappear. Hence two
fairer measures, over *good* completions only, where a gold judge tells which are good.

A *sequence* is one completion as words or token ids. A measure of nothing is NaN.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Tokens: TypeAlias = Sequence[str] | Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedDistinct:
    """Distinct-2 of matched good completions; NaN on both sides where these are too few."""

    completions: int
    sft: float
    ppo: float

    @property
    def ratio(self) -> float:
        """PPO's distinct-2 over SFT's, or NaN."""
        return ratio(self.ppo, self.sft)


def ratio(numerator: float, denominator: float) -> float:
    """Divide, with NaN in place of a division by zero."""
    return numerator / denominator if denominator else math.nan


def distinct_n(completions: Sequence[Tokens], n: int = 2) -> float:
    """Count distinct n-grams over all n-grams, pooled over the completions.

    Args:
        completions: Sequences of words or token ids; n-grams do not reach across two of them.

    Returns:
        A share in (0, 1]; NaN where no completion has n tokens.

    Source:
        Li et al., A Diversity-Promoting Objective Function (2016), section 5.2.
    """
    grams = [
        tuple(completion[start : start + n])
        for completion in completions
        for start in range(len(completion) - n + 1)
    ]
    return ratio(len(set(grams)), len(grams)) if grams else math.nan


def length_matched_ratio(first: Sequence[Tokens], second: Sequence[Tokens], n: int = 2) -> float:
    """Compare distinct-n of two models at equal length: second's over first's.

    Completion i of both models, of one prompt, is cut to the shorter of the two, so that a model
    does not look more diverse for saying less.

    Returns:
        The ratio; NaN where nothing is left to count.
    """
    shorter = [min(len(one), len(other)) for one, other in zip(first, second, strict=True)]
    cut_first = [one[:length] for one, length in zip(first, shorter, strict=True)]
    cut_second = [other[:length] for other, length in zip(second, shorter, strict=True)]
    return ratio(distinct_n(cut_second, n), distinct_n(cut_first, n))


def unique_share(completions: Sequence[Hashable]) -> float:
    """Count distinct completions over all completions, pooled over the prompts."""
    return ratio(len(set(completions)), len(completions)) if completions else math.nan


def good_pair_difference(groups: Sequence[Sequence[Hashable]]) -> float:
    """Give the probability that two good samples of one prompt differ.

    Exact over all pairs of a prompt; prompts with at least two good samples count the same,
    however many they have. 0 is one wording a prompt, 1 never the same twice.

    Args:
        groups: The good samples of each prompt, in any comparable form, such as their texts.

    Returns:
        The mean over prompts of 1 - Σ c(c - 1) / (m(m - 1)), with c the counts of the m samples'
        wordings; NaN where no prompt has two.
    """
    differences = []
    for group in groups:
        size = len(group)
        if size >= 2:
            equal = sum(count * (count - 1) for count in Counter(group).values())
            differences.append(1 - equal / (size * (size - 1)))
    return sum(differences) / len(differences) if differences else math.nan


def matched_distinct_2(
    sft_good: Sequence[Sequence[Tokens]],
    ppo_good: Sequence[Sequence[Tokens]],
    min_completions: int = 100,
) -> MatchedDistinct:
    """Compare distinct-2 over as many good completions of the same prompts from both models.

    Of each prompt both models give the first k of their good completions, k the smaller of their
    two counts: neither a prompt that only one solves nor a better rate of success moves the ratio.

    Args:
        min_completions: Matched completions of each model below which nothing is measured.

    Returns:
        How many completions of each model were matched, and distinct-2 of both.
    """
    sft: list[Tokens] = []
    ppo: list[Tokens] = []
    for sft_group, ppo_group in zip(sft_good, ppo_good, strict=True):
        count = min(len(sft_group), len(ppo_group))
        sft.extend(sft_group[:count])
        ppo.extend(ppo_group[:count])
    if len(sft) < min_completions:
        return MatchedDistinct(completions=len(sft), sft=math.nan, ppo=math.nan)
    return MatchedDistinct(completions=len(sft), sft=distinct_n(sft), ppo=distinct_n(ppo))
