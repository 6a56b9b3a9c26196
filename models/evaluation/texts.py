"""Agreement of completions with references: BLEU and ROUGE.

Both come from the libraries whose numbers papers report (sacrebleu, rouge_score), never from code
of our own.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

from sacrebleu import corpus_bleu

from models.errors import DataError

ROUGE = ("rouge1", "rouge2", "rougeL")

References = Sequence[str] | Sequence[Sequence[str]]


def bleu(
    completions: Sequence[str],
    references: References,
    *,
    tokenize: Literal["13a", "intl", "zh", "char"] = "13a",
) -> float:
    """Compute corpus BLEU of completions against their references.

    Args:
        references: One text, or a list of alternative texts, for each completion.
        tokenize: sacrebleu's tokenizer: 13a for languages with spaces, zh for Chinese.

    Returns:
        100 * min(1, exp(1 - reference length / length)) * exp(mean over n = 1..4 of ln precision),
        0 to 100, with sacrebleu's exponential smoothing; NaN of no completions.

    Raises:
        DataError: Not as many references as completions, or one without any.

    Source:
        Papineni et al., BLEU (2002), section 2.3; Post, A Call for Clarity in Reporting BLEU
        Scores (2018).
    """
    listed = _listed(completions, references)
    if not completions:
        return math.nan
    most = max(len(one) for one in listed)
    # sacrebleu wants one stream a rank of reference, None where a completion has fewer.
    streams: list[Any] = [
        [one[rank] if rank < len(one) else None for one in listed] for rank in range(most)
    ]
    return float(corpus_bleu(list(completions), streams, tokenize=tokenize).score)


def rouge(
    completions: Sequence[str],
    references: References,
    *,
    tokens: Literal["words", "characters"] = "words",
) -> dict[str, float]:
    """Compute ROUGE-1, ROUGE-2 and ROUGE-L F-scores, the mean over completions.

    Args:
        references: One text, or a list of alternative texts, for each completion; the best counts.
        tokens: Lower-case words of a-z and 0-9, no stemming, as the original; or characters, for
            other scripts, in which `words` finds nothing.

    Returns:
        rouge1, rouge2, rougeL: F = 2PR / (P + R), 0 to 1, of n-grams or of the longest common
        subsequence. Completions whose references have no such token are left out; NaN of none.

    Raises:
        DataError: Not as many references as completions, or one without any.

    Source:
        Lin, ROUGE: A Package for Automatic Evaluation of Summaries (2004), sections 2 and 3.
    """
    from rouge_score.rouge_scorer import RougeScorer  # seconds to import
    from rouge_score.tokenizers import DefaultTokenizer

    listed = _listed(completions, references)
    tokenizer = _Characters() if tokens == "characters" else DefaultTokenizer(use_stemmer=False)
    scorer = RougeScorer(list(ROUGE), tokenizer=tokenizer)
    scores = [
        scorer.score_multi(wanted, completion)
        for wanted, completion in zip(listed, completions, strict=True)
        if any(map(tokenizer.tokenize, wanted))
    ]
    if not scores:
        return dict.fromkeys(ROUGE, math.nan)
    return {name: sum(one[name].fmeasure for one in scores) / len(scores) for name in ROUGE}


class _Characters:
    """Tokens of a script without spaces, as rouge_score asks a tokenizer for them."""

    def tokenize(self, text: str) -> list[str]:
        return [character for character in text.lower() if not character.isspace()]


def _listed(completions: Sequence[str], references: References) -> list[list[str]]:
    if len(completions) != len(references):
        raise DataError(
            f"got {len(completions)} completions and {len(references)} references, wanted one "
            "reference, or one list of them, for each completion"
        )
    listed = [[one] if isinstance(one, str) else list(one) for one in references]
    empty = next((index for index, one in enumerate(listed) if not one), None)
    if empty is not None:
        raise DataError(f"completion {empty} has no reference; give at least one, or leave it out")
    return listed
