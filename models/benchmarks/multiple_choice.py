"""Multiple choice and cloze: how often a model prefers, or says, the right answer.

Multiple choice: the log-likelihood of every choice behind the question; the largest is the model's
answer (`accuracy`), or the largest divided by the choice's UTF-8 bytes (`accuracy_norm`), so that
long choices are not punished for their length. Cloze: whether greedy decoding says the completion
token by token (`exact_match`), or its last word when the rest is given (`last_word`); LAMBADA is
the case of one word, where both are equal.

Source: Gao et al., lm-evaluation-harness 0.4.13: `acc` and `acc_bytes` of output type
multiple_choice (its `acc_norm` divides by characters: the same for ASCII); for cloze Paperno et
al., The LAMBADA dataset (2016).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.benchmarks.config import MultipleChoiceConfig
from models.benchmarks.continuations import (
    Continuation,
    Likelihood,
    encode_apart,
    encode_pairs,
    fit_context,
    likelihoods,
)
from models.benchmarks.questions import Question, Questions, draw_examples
from models.errors import DataError, ModelError
from models.language.likelihood import perplexity
from models.language.tokenizer import encode_prompts, encode_texts
from models.statistics.intervals import Interval, wilson_interval

NO_LIMIT = 2**31 - 1
BETWEEN = "\n\n"
"""Between the examples of a plain few-shot prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model answered to a file of questions.

    Attributes:
        correct: Of each measure, whether each row was right: accuracy and accuracy_norm, or
            exact_match and last_word.
        chosen: The choice with the largest log-likelihood of each row; None for cloze.
        logprobs: Of each row's answers, nats.
        subjects: Of each row.
        chance: Expected accuracy of guessing, the mean of 1 / choices; NaN for cloze.
        perplexity: Of the right answers' tokens, given their questions.
        cut: Rows whose context was too long and lost its beginning.
    """

    correct: Mapping[str, list[bool]]
    chosen: list[int | None]
    logprobs: list[list[float]]
    subjects: list[str]
    chance: float
    perplexity: float
    cut: int

    def shares(self) -> dict[str, Interval]:
        """Each measure with its 95% Wilson interval."""
        return {name: wilson_interval(sum(one), len(one)) for name, one in self.correct.items()}

    def by_subject(self) -> dict[str, dict[str, Interval]]:
        """The same for the rows of each subject; empty where rows name none."""
        rows: dict[str, list[int]] = defaultdict(list)
        for index, subject in enumerate(self.subjects):
            rows[subject].append(index)
        if set(rows) == {""}:
            return {}
        return {
            subject or "(none)": {
                name: wilson_interval(sum(one[row] for row in rows[subject]), len(rows[subject]))
                for name, one in self.correct.items()
            }
            for subject in sorted(rows)
        }

    def metrics(self) -> dict[str, float]:
        """Flat numbers: measures with the ends of their intervals, chance, rows, rows cut."""
        found: dict[str, float] = {}
        for name, share in self.shares().items():
            found |= share.metrics(name)
        if not math.isnan(self.chance):
            found["chance"] = self.chance
        return found | {
            "perplexity": self.perplexity,
            "rows": float(len(self.subjects)),
            "cut_contexts": float(self.cut),
        }


def answer_questions(
    model: Any,
    tokenizer: Any,
    questions: Questions,
    config: MultipleChoiceConfig,
    *,
    seed: int,
    shown: Questions | None = None,
) -> Answers:
    """Have a model answer multiple-choice or cloze questions.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        questions: What is asked.
        config: Examples shown, plain or chat prompts, delimiter.
        seed: Of the examples' drawing; the same for every model that is compared.
        shown: Where examples come from; the other questions if None.

    Raises:
        DataError: Too few examples, or an answer that leaves no room for its question.
        ModelError: The model's log-likelihoods are not finite, or chat prompts without a template.
    """
    examples = draw_examples(questions, config.shots, seed, shown=shown)
    encode = _chat if config.prompt == "chat" else _plain
    limit: int = model.config.max_position_embeddings
    groups, heads, cut = encode(tokenizer, questions, examples, config, limit)
    rows = [one for group in groups for one in group]
    lasts = [_last_word(group[0], head) for group, head in zip(groups, heads, strict=True) if head]
    found = likelihoods(model, [*rows, *lasts])
    if not all(math.isfinite(one.logprob) for one in found):
        raise ModelError(
            f"the model's log-likelihoods on {questions.name} are not all finite, wanted numbers; "
            "its weights have diverged: take an earlier checkpoint"
        )
    grouped, start = [], 0
    for group in groups:
        grouped.append(found[start : start + len(group)])
        start += len(group)
    words = iter(found[len(rows) :])
    last = [next(words) if head else group[0] for group, head in zip(grouped, heads, strict=True)]
    return _answers(questions, grouped, last, cut)


Encoded = tuple[list[list[Continuation]], list[int], int]
"""Each row's continuations, tokens of a cloze before its last word, and rows that were cut."""


def _plain(
    tokenizer: Any,
    questions: Questions,
    examples: Sequence[Sequence[Question]],
    config: MultipleChoiceConfig,
    limit: int,
) -> Encoded:
    """Text on text: examples, question, delimiter, answer."""

    def behind(context: str, answer: str) -> str:
        """Put the delimiter before an answer, unless there is white space already."""
        spaced = not context or context[-1].isspace() or answer[0].isspace()
        return answer if spaced else config.delimiter + answer

    pairs, head_pairs = [], []
    for row, solved in zip(questions.rows, examples, strict=True):
        blocks = [one.context + behind(one.context, one.answer) for one in solved]
        context = BETWEEN.join([*blocks, row.context])
        pairs += [(context, behind(row.context, answer)) for answer in row.answers]
        head = _head(row.answer) if questions.kind == "cloze" else ""
        head_pairs.append((context, behind(row.context, head)) if head else None)
    encoded = encode_pairs(tokenizer, pairs)
    heads = iter(encode_pairs(tokenizer, [pair for pair in head_pairs if pair]))
    head_tokens = [len(next(heads).continuation) if pair else 0 for pair in head_pairs]
    groups, cut, start = [], 0, 0
    for row in questions.rows:
        group = encoded[start : start + len(row.answers)]
        start += len(group)
        _want_room(group, limit, questions, row)
        fitted, was_cut = fit_context(group, limit)
        groups.append(fitted)
        cut += was_cut
    return groups, head_tokens, cut


def _chat(
    tokenizer: Any,
    questions: Questions,
    examples: Sequence[Sequence[Question]],
    config: MultipleChoiceConfig,
    limit: int,
) -> Encoded:
    """Turns of user and assistant, through the model's template; too long ones lose old turns."""
    prompts = []
    for row, solved in zip(questions.rows, examples, strict=True):
        turns = [(one.context, one.answer) for one in solved]
        messages = [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        prompts.append([*messages, {"role": "user", "content": row.context}])
    groups, rooms = [], []
    for row in questions.rows:
        group = encode_apart(tokenizer, [([], answer) for answer in row.answers])
        rooms.append(_want_room(group, limit, questions, row))
        groups.append(group)
    whole = encode_prompts(tokenizer, prompts, NO_LIMIT)
    contexts = encode_prompts(tokenizer, prompts, rooms)
    groups = [
        [Continuation(context=context, continuation=one.continuation) for one in group]
        for context, group in zip(contexts, groups, strict=True)
    ]
    cloze = questions.kind == "cloze"
    heads = encode_texts(tokenizer, [_head(row.answer) if cloze else "" for row in questions.rows])
    cut = sum(len(one) > room for one, room in zip(whole, rooms, strict=True))
    return groups, [len(head) for head in heads], cut


def _want_room(
    group: Sequence[Continuation], limit: int, questions: Questions, row: Question
) -> int:
    """Tokens that a row's longest answer leaves for its context."""
    longest = max(len(one.continuation) for one in group)
    if longest >= limit:
        raise DataError(
            f"{questions.name}, line {row.line}: an answer has {longest} tokens, wanted fewer "
            f"than the model's context of {limit}; shorten it or leave the row out"
        )
    return limit - longest


def _head(completion: str) -> str:
    """A completion without its last word; empty where it has one word only."""
    words = completion.rstrip().rsplit(maxsplit=1)
    return words[0] if len(words) == 2 else ""


def _last_word(whole: Continuation, head: int) -> Continuation:
    """Give what comes before the last word, so that the last word alone is asked for."""
    head = min(head, len(whole.continuation) - 1)
    return Continuation(
        context=whole.context + whole.continuation[:head], continuation=whole.continuation[head:]
    )


def _answers(
    questions: Questions,
    found: Sequence[Sequence[Likelihood]],
    last: Sequence[Likelihood],
    cut: int,
) -> Answers:
    rows = questions.rows
    right = [group[row.label] for row, group in zip(rows, found, strict=True)]
    logprobs = [[one.logprob for one in group] for group in found]
    chosen: list[int | None] = [None] * len(rows)
    if questions.kind == "cloze":
        correct = {
            "exact_match": [one.greedy for one in right],
            "last_word": [one.greedy for one in last],
        }
    else:
        per_byte = [
            [one / len(answer.encode()) for one, answer in zip(group, row.answers, strict=True)]
            for row, group in zip(rows, logprobs, strict=True)
        ]
        chosen = [_largest(group) for group in logprobs]
        correct = {
            "accuracy": [one == row.label for one, row in zip(chosen, rows, strict=True)],
            "accuracy_norm": [
                _largest(group) == row.label for group, row in zip(per_byte, rows, strict=True)
            ],
        }
    return Answers(
        correct=correct,
        chosen=chosen,
        logprobs=logprobs,
        subjects=[row.subject for row in rows],
        chance=(
            sum(1 / len(row.answers) for row in rows) / len(rows)
            if questions.kind == "choice"
            else math.nan
        ),
        perplexity=perplexity(-sum(one.logprob for one in right), sum(one.tokens for one in right)),
        cut=cut,
    )


def _largest(values: Sequence[float]) -> int:
    """Where the largest value stands; the first of equal ones, as numpy's argmax."""
    return max(range(len(values)), key=lambda index: values[index])
