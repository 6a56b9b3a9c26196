"""Verdicts on what texts have in common: lengths, agreement, languages, tokens."""

from collections.abc import Iterator
from itertools import chain, pairwise

from tasks.data.inspection.records import (
    UNSURE,
    Agreement,
    CollectionInspection,
    Finding,
    Inspection,
    Languages,
    PairNumbers,
    Truncation,
    percent,
)

LONGER_LOOK = 0.65
"""Of the pairs: beyond it, "the longer one wins" ranks about as well as reward models do on many
public sets (0.65 to 0.75), and a model that has learned nothing else looks good."""
AGREEMENT_LOOK, AGREEMENT_PAIRS = 0.6, 20
"""Share of equal judgements (coins: 0.5; people on public sets: 0.63 to 0.77), from this many
pairs on."""
LANGUAGE_LOOK, LANGUAGE_TEXTS = 0.15, 100
"""Difference of a language's share, from this many texts on, where both are known within 0.1."""
ONE_PROMPT_LOOK, ONE_PROMPT_PAIRS = 0.2, 100
"""Of the pairs that one prompt has, from this many pairs on: the others hardly count."""
EQUAL_TOKENS_LOOK = 0.01
TOO_LONG_LOOK, TOO_LONG_WRONG = 0.1, 0.5
"""Of a sample: with half of the rows left out, what is learned is another data set."""


def judge_balance(found: Inspection) -> Iterator[Finding]:
    """Say what of the texts' lengths, judgements, languages and tokens is worth a look."""
    yield from chain.from_iterable(map(_sides_differ, found.collections))
    known = [one for one in found.collections if one.languages.texts >= LANGUAGE_TEXTS]
    yield from chain.from_iterable(_collections_differ(*two) for two in pairwise(known))
    if found.pairs is not None:
        yield from _pairs(found.pairs)
    if found.agreement is not None:
        yield _agreement(found.agreement)
    yield from chain.from_iterable(map(_truncated, found.truncations))


def _pairs(pairs: PairNumbers) -> Iterator[Finding]:
    if pairs.unequal:
        longer = pairs.chosen_longer()
        side = "longer" if longer.mean >= 0.5 else "shorter"
        low, high = (
            (longer.low, longer.high) if side == "longer" else (1 - longer.high, 1 - longer.low)
        )
        share = longer.mean if side == "longer" else 1 - longer.mean
        yield Finding(
            severity="look" if low > LONGER_LOOK else "fine",
            text=f"preferences: chosen is {side} in {share:.1%} of the pairs of unequal length "
            f"(95% interval {low:.1%} to {high:.1%})",
            remedy="the reward model may learn length: compare it with the rule in its report, and "
            "add pairs where the other side is better"
            if low > LONGER_LOOK
            else "",
        )
    if pairs.pairs >= ONE_PROMPT_PAIRS and pairs.most_pairs / pairs.pairs > ONE_PROMPT_LOOK:
        yield Finding(
            severity="look",
            text=f"preferences: one prompt has {pairs.most_pairs} of {pairs.pairs} pairs; there "
            f"are {pairs.prompts} prompts",
            remedy="give pairs of more prompts, or of this one fewer",
        )
    if len(pairs.margins) == 1 and pairs.pairs > 1:
        yield Finding(
            severity="look",
            text=f"preferences: every margin is {next(iter(pairs.margins))}",
            remedy="leave the column out: it says nothing",
        )


def _agreement(found: Agreement) -> Finding:
    is_low = found.equal < AGREEMENT_LOOK and found.pairs >= AGREEMENT_PAIRS
    return Finding(
        severity="look" if is_low else "fine",
        text=f"preferences: of {found.pairs} pairs that were judged more than once, two judgements "
        f"agree in {found.equal:.1%} (coins: 50%)",
        remedy="no reward model can rank pairs better than those who judged them; ask for clearer "
        "criteria"
        if is_low
        else "",
    )


def _sides_differ(each: CollectionInspection) -> Iterator[Finding]:
    found = _difference(each.languages, each.heldout_languages)
    if found:
        yield Finding(
            severity="look",
            text=f"{each.name}: {found[0]} is the language of {percent(found[1])} of the training "
            f"texts and of {percent(found[2])} of the held-out ones",
            remedy="hold out texts of the same languages",
        )


def _collections_differ(
    one: CollectionInspection, other: CollectionInspection
) -> Iterator[Finding]:
    found = _difference(one.languages, other.languages)
    if found:
        yield Finding(
            severity="look",
            text=f"{found[0]} is the language of {percent(found[1])} of the {one.name} and of "
            f"{percent(found[2])} of the {other.name}",
            remedy="check that the files belong together",
        )


def _difference(one: Languages, other: Languages) -> tuple[str, float, float] | None:
    """The language whose shares of the texts of known language differ most, if they do."""
    if min(one.known, other.known) < LANGUAGE_TEXTS:
        return None
    shares = {name: (one.share(name), other.share(name)) for name in (*one.shares, *other.shares)}
    shares.pop(UNSURE, None)
    name, (first, second) = max(shares.items(), key=lambda item: abs(item[1][0] - item[1][1]))
    return (name, first, second) if abs(first - second) > LANGUAGE_LOOK else None


def _truncated(one: Truncation) -> Iterator[Finding]:
    for count, what, wrong, bound, remedy in (
        (one.dropped, f"rows have a completion of {one.limit} tokens or more and are left out",
         TOO_LONG_WRONG, TOO_LONG_LOOK, "raise the limit or the context, or shorten them"),
        (one.equal, "pairs are the same tokens on both sides", 1.0, EQUAL_TOKENS_LOOK,
         "the tokenizer cannot tell them apart: take one that knows these characters"),
        (one.cut, f"prompts are cut at their beginning to fit {one.limit} tokens", 2.0,
         TOO_LONG_LOOK, "raise the limit or the context if what is cut matters"),
    ):  # fmt: skip
        if count / one.rows >= bound:
            yield Finding(
                severity="wrong" if count / one.rows > wrong else "look",
                text=f"{one.collection}: {percent(count / one.rows)} of {one.rows} sampled {what}",
                remedy=remedy,
            )
