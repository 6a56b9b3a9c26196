"""Which published claims a run of `foundations` checks, and what came of each.

A claim says that one model is better than another by one number. Where both published what they
did row by row, the difference has a paired bootstrap's interval, and a claim whose interval holds
zero is left open.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from models.rows import read_rows
from models.statistics.intervals import Interval, paired_bootstrap

RESAMPLES = 1000
Verdict: TypeAlias = Literal["held", "open", "did not hold"]
Values: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One model is better than another.

    Attributes:
        better, worse: Roles of the two models, or a metric of the same model as `role:metric`.
        metric: Of both, unless one names its own.
        lower: Whether the smaller number is the better one.
        margin: By how much the first may be worse.
    """

    part: str
    text: str
    source: str
    better: str
    worse: str
    metric: str
    lower: bool = False
    margin: float = 0.0


def _language() -> list[Claim]:
    order = (
        ("feedforward", "ngram", "A feed-forward network beats n-grams", "Bengio et al. 2003"),
        ("rnn", "feedforward", "A recurrent network beats a window", "Mikolov et al. 2010"),
        ("lstm", "rnn", "Gates beat a plain recurrence", "Sundermeyer et al. 2012"),
        ("gpt2", "lstm", "Attention beats recurrence (GPT-2)", "Radford et al. 2018, section 5"),
        ("llama", "lstm", "Attention beats recurrence (Llama)", "Al-Rfou et al. 2019"),
        ("llama", "gpt2", "Llama's block beats GPT-2's", "Touvron et al. 2023, section 2.2"),
        ("mixtral", "llama", "Experts beat one dense layer", "Shazeer et al. 2017"),
    )
    claims = [
        Claim(
            part="language", text=text, source=source, better=better,
            worse=worse if worse != "ngram" else "ngram:ngram/bits_per_byte",
            metric="pretrain/bits_per_byte", lower=True,
        )
        for better, worse, text, source in order
    ]  # fmt: skip
    baselines = (
        ("bert", "Masked words are learned", "Devlin et al. 2019", "masked_accuracy",
         "masked_accuracy_unigram"),
        ("bert", "The next sentence is learned", "Devlin et al. 2019", "next_sentence_accuracy",
         "next_sentence_majority"),
        ("bart", "Noised text is restored", "Lewis et al. 2020", "restored_accuracy",
         "restored_accuracy_unigram"),
    )  # fmt: skip
    return claims + [
        Claim(
            part="language", text=text, source=source, better=model,
            worse=f"{model}:pretrain/{baseline}", metric=f"pretrain/{metric}",
        )
        for model, text, source, metric, baseline in baselines
    ]  # fmt: skip


TRUNKS = {
    "gpt2": ("GPT", "Radford et al. 2018, table 5"),
    "bert": ("BERT", "Devlin et al. 2019, section 5"),
    "bart": ("BART", "Lewis et al. 2020, section 5"),
}
CLASSES = ("entailment", "polarity", "choice")
TASKS = (*CLASSES, "similarity")


def _understanding() -> list[Claim]:
    claims = [
        Claim(
            part="understanding", text=f"Pretraining helps {name}: {task}", source=source,
            better=f"{model}-{task}", worse=f"{model}-{task}-random",
            metric=f"understand/{'correlation' if task == 'similarity' else 'accuracy'}",
        )
        for task in TASKS
        for model, (name, source) in TRUNKS.items()
    ]  # fmt: skip
    claims += [
        Claim(
            part="understanding", text=f"GPT's auxiliary loss helps: {task}",
            source="Radford et al. 2018, section 5", better=f"gpt2-{task}-auxiliary",
            worse=f"gpt2-{task}", metric="understand/accuracy",
        )
        for task in CLASSES
    ]  # fmt: skip
    return [
        *claims,
        Claim(
            part="understanding", text="Both directions beat one: BERT against GPT, entailment",
            source="Devlin et al. 2019, table 1", better="bert-entailment",
            worse="gpt2-entailment", metric="understand/accuracy",
        ),
        Claim(
            part="understanding", text="BERT beats the most frequent answer: entailment",
            source="Devlin et al. 2019, table 1", better="bert-entailment",
            worse="bert-entailment:understand/majority", metric="understand/accuracy",
        ),
        Claim(
            part="understanding", text="BERT is within 2 points of a bag of words: polarity",
            source="Pang and Lee 2005", better="bert-polarity",
            worse="bert-polarity:understand/baseline", metric="understand/accuracy", margin=0.02,
        ),
    ]  # fmt: skip


def _translation() -> list[Claim]:
    return [
        Claim(
            part="translation", text="Attention cures long sentences (more than 15 words)",
            source="Bahdanau et al. 2015, figure 2", better="rnnsearch",
            worse="rnn_encoder_decoder", metric="translate/bleu_long",
        ),
        Claim(
            part="translation", text="A Transformer beats RNNsearch",
            source="Vaswani et al. 2017, table 2", better="transformer", worse="rnnsearch",
            metric="translate/bleu",
        ),
        Claim(
            part="translation", text="Denoising on one side helps BART to translate",
            source="Lewis et al. 2020, table 6", better="bart-translation",
            worse="bart-translation-random", metric="translate/bleu",
        ),
    ]  # fmt: skip


def _others() -> list[Claim]:
    infilling = [
        Claim(
            part="noise", text=f"Infilling beats {other} alone",
            source="Lewis et al. 2020, table 1",
            better="bart-infilling-entailment", worse=f"bart-{other}-entailment",
            metric="understand/accuracy",
        )
        for other in ("masking", "deletion", "permutation", "rotation")
    ]  # fmt: skip
    prompts = [
        Claim(
            part="in_context", text=f"Examples in the prompt help: {task}",
            source="Brown et al. 2020, figure 1.2",
            better=f"in-context-{task}:in_context/accuracy_few",
            worse=f"in-context-{task}:in_context/accuracy_zero", metric="",
        )
        for task in ("entailment", "polarity", "choice")
    ]  # fmt: skip
    return [
        *infilling,
        *prompts,
        Claim(
            part="selection", text="Fewer near-duplicates, better language model at equal steps",
            source="Lee et al. 2022, section 6", better="gpt2-selected", worse="gpt2",
            metric="pretrain/bits_per_byte", lower=True,
        ),
    ]  # fmt: skip


def claims() -> list[Claim]:
    """Every claim, in the order of the report."""
    return [*_language(), *_understanding(), *_translation(), *_others()]


def check_claims(
    metrics: Mapping[str, Values], folders: Mapping[str, Path]
) -> list[dict[str, Any]]:
    """Say of each claim whose two numbers there are whether it held.

    Args:
        metrics: Final metrics by role.
        folders: Published folders by role.

    Returns:
        The claim with `first`, `second`, `difference` (positive = as claimed) and `verdict`.
    """
    found = []
    for claim in claims():
        first, second = (_value(one, claim.metric, metrics) for one in (claim.better, claim.worse))
        if not (math.isfinite(first) and math.isfinite(second)):
            continue
        sign = -1.0 if claim.lower else 1.0
        gain = Interval(mean=sign * (first - second))
        if ":" not in claim.better + claim.worse:
            gain = _paired(claim, gain, folders)
        found.append(
            {
                "part": claim.part,
                "claim": claim.text,
                "source": claim.source,
                "first": first,
                "second": second,
                "difference": gain,
                "verdict": _verdict(gain, claim.margin),
            }
        )
    return found


def _value(name: str, metric: str, metrics: Mapping[str, Values]) -> float:
    role, _, own = name.partition(":")
    return metrics.get(role, {}).get(own or metric, math.nan)


def _verdict(gain: Interval, margin: float) -> Verdict:
    if math.isfinite(gain.low) and gain.low <= -margin < gain.high:
        return "open"
    return "held" if gain.mean > -margin else "did not hold"


def _paired(claim: Claim, plain: Interval, folders: Mapping[str, Path]) -> Interval:
    """The difference with its interval, where both models answered the same rows."""
    measure = _PAIRED.get(claim.metric)
    if measure is None:
        return plain
    return measure(folders[claim.better], folders[claim.worse])


def _paired_accuracy(better: Path, worse: Path) -> Interval:
    sides = [
        np.array([[row["prediction"] == row["label"]] for row in read_rows(one)], np.float64)
        for one in (worse / "predictions.jsonl", better / "predictions.jsonl")
    ]
    return paired_bootstrap(sides[0], sides[1], RESAMPLES, seed=0)


def _paired_bleu(length: str, better: Path, worse: Path) -> Interval:
    from models.translation.scores import compare_translations  # a second to import

    systems = [read_rows(one / "samples.jsonl") for one in (worse, better)]
    return compare_translations(systems[0], systems[1], seed=0)[length]


_PAIRED: dict[str, Callable[[Path, Path], Interval]] = {
    "understand/accuracy": _paired_accuracy,
    "translate/bleu": partial(_paired_bleu, "all"),
    "translate/bleu_long": partial(_paired_bleu, "long"),
}


def count_verdicts(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many claims held, did not, and are open, as metrics."""
    names = {"held": "held", "open": "open", "did not hold": "not_held"}
    return {
        f"foundations/claims_{short}": float(sum(one["verdict"] == name for one in found))
        for name, short in names.items()
    }
