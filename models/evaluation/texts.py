"""Measures of texts that need no judge: likelihood, and agreement with references.

Used by evaluation on any model and by the benchmarks. Likelihood is of texts as they stand, so
models with different tokenizers are compared by bits per byte; BLEU and ROUGE come from the
libraries whose numbers papers report (sacrebleu, rouge_score), never from code of our own.
"""

import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from models.errors import DataError, ParameterError
from models.language import likelihood
from models.language.likelihood import held_out_loss
from models.language.tokenizer import encode_texts

WINDOWS_AT_ONCE = 1024
"""Rows that are laid out as one table; it bounds memory, never the result."""

ROUGE = ("rouge1", "rouge2", "rougeL")

References = Sequence[str] | Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLikelihood:
    """How well a model predicts texts.

    Attributes:
        nll_sum: -ln p over all tokens of all texts, nats.
        token_count: Tokens predicted: every one of every text, no EOS.
        byte_count: UTF-8 bytes of the texts.
    """

    nll_sum: float
    token_count: int
    byte_count: int

    @property
    def perplexity(self) -> float:
        """exp(nats a token); depends on the tokenizer."""
        return likelihood.perplexity(self.nll_sum, self.token_count)

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of text; comparable between tokenizers."""
        return likelihood.bits_per_byte(self.nll_sum, self.byte_count)


def text_likelihood(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    window: int | None = None,
    stride: int | None = None,
) -> TextLikelihood:
    """Measure how well a model predicts texts, each token exactly once.

    A text is read after its prefix token (BOS, else EOS), which is never predicted itself; no EOS
    is predicted behind it. A text longer than the window is read in overlapping windows: the first
    predicts all of its tokens, each later one the next `stride` tokens from the `window - stride`
    before them. A smaller stride gives each token more context and costs more.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        texts: Any texts; empty ones count for nothing.
        window: Tokens that the model sees at once, at most its context, which is the default.
        stride: Tokens predicted by each window after the first; half a window by default.

    Raises:
        ParameterError: A window beyond the context, or a stride that leaves no context.

    Source:
        Perplexity and bits per byte: Gao et al., The Pile (2020), section 3.1: bits per byte =
        (tokens / bytes) * (nats a token) / ln 2. Strided windows: Press et al., Shortformer
        (2021), section 2, there called sliding window with stride S.
    """
    context: int = model.config.max_position_embeddings
    window = context if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not 2 <= window <= context or not 1 <= stride < window:
        raise ParameterError(
            f"window {window} and stride {stride} do not fit; wanted a window of 2 to the model's "
            f"context of {context} tokens and a stride of at least 1 below the window"
        )
    prefix = prefix_token(tokenizer)
    pairs = [
        pair
        for ids in encode_texts(tokenizer, texts)
        for pair in _windows([prefix, *ids], window, stride)
    ]
    nll_sum, token_count = 0.0, 0
    for start in range(0, len(pairs), WINDOWS_AT_ONCE):
        prompts, predicted = zip(*pairs[start : start + WINDOWS_AT_ONCE], strict=True)
        loss = held_out_loss(model, prompts, predicted)
        nll_sum += loss.nll_sum
        token_count += loss.token_count
    return TextLikelihood(
        nll_sum=nll_sum,
        token_count=token_count,
        byte_count=sum(len(text.encode()) for text in texts),
    )


def prefix_token(tokenizer: Any) -> int:
    """The token before a text that has none: BOS, else EOS, with which pretraining parts texts."""
    bos: int | None = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id) if bos is None else bos


def bleu(
    completions: Sequence[str],
    references: References,
    *,
    tokenize: Literal["13a", "intl", "zh", "char"] = "13a",
) -> float:
    """Compute corpus BLEU of completions against their references.

    Args:
        completions: What models said.
        references: One text, or a list of alternative texts, for each completion.
        tokenize: sacrebleu's tokenizer: 13a for languages with spaces, zh for Chinese.

    Returns:
        100 * min(1, exp(1 - reference length / length)) * exp(mean over n = 1..4 of ln precision),
        0 to 100, with sacrebleu's exponential smoothing; NaN of no completions.

    Raises:
        DataError: Not as many references as completions, or one without any.
        ParameterError: sacrebleu is not installed.

    Source:
        Papineni et al., BLEU (2002), section 2.3; Post, A Call for Clarity in Reporting BLEU
        Scores (2018).
    """
    listed = _listed(completions, references)
    if not completions:
        return math.nan
    most = max(len(one) for one in listed)
    # sacrebleu wants one stream a rank of reference, None where a completion has fewer.
    streams = [[one[rank] if rank < len(one) else None for one in listed] for rank in range(most)]
    sacrebleu = _library("sacrebleu", "sacrebleu")
    return float(sacrebleu.corpus_bleu(list(completions), streams, tokenize=tokenize).score)


def rouge(
    completions: Sequence[str],
    references: References,
    *,
    tokens: Literal["words", "characters"] = "words",
) -> dict[str, float]:
    """Compute ROUGE-1, ROUGE-2 and ROUGE-L F-scores, the mean over completions.

    Args:
        completions: What models said.
        references: One text, or a list of alternative texts, for each completion; the best counts.
        tokens: Lower-case words of a-z and 0-9, no stemming, as the original; or characters, for
            scripts without spaces, in which `words` finds nothing.

    Returns:
        rouge1, rouge2, rougeL: F = 2PR / (P + R), 0 to 1, of n-grams or of the longest common
        subsequence; NaN of no completions.

    Raises:
        DataError: Not as many references as completions, or one without any.
        ParameterError: rouge_score is not installed.

    Source:
        Lin, ROUGE: A Package for Automatic Evaluation of Summaries (2004), sections 2 and 3.
    """
    listed = _listed(completions, references)
    if not completions:
        return dict.fromkeys(ROUGE, math.nan)
    module = _library("rouge_score.rouge_scorer", "rouge-score")
    scorer = module.RougeScorer(
        list(ROUGE), use_stemmer=False, tokenizer=_Characters() if tokens == "characters" else None
    )
    scores = [scorer.score_multi(*pair) for pair in zip(listed, completions, strict=True)]
    return {name: sum(one[name].fmeasure for one in scores) / len(scores) for name in ROUGE}


class _Characters:
    """Tokens of a script without spaces, as rouge_score asks a tokenizer for them."""

    def tokenize(self, text: str) -> list[str]:
        return [character for character in text.lower() if not character.isspace()]


def _windows(ids: list[int], window: int, stride: int) -> Iterator[tuple[list[int], list[int]]]:
    """Cut a text into what is given and what is predicted; every token but the first, once."""
    done = 1
    while done < len(ids):
        end = min(len(ids), window if done == 1 else done + stride)
        yield ids[max(0, end - window) : done], ids[done:end]
        done = end


def _listed(completions: Sequence[str], references: References) -> list[list[str]]:
    """The references of each completion as a list."""
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


def _library(module: str, package: str) -> Any:
    """Import a library that only these measures need."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ParameterError(
            f"{package} is not installed ({error}); it is needed for this measure: "
            f"pip install {package}"
        ) from error
