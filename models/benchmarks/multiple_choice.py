"""Multiple choice and cloze: how often a model prefers, or generates, the right answer.

Multiple choice: the log-likelihood of every choice behind the question; the largest is the model's
answer (`accuracy`), or the largest divided by the choice's UTF-8 bytes (`accuracy_norm`), so that
long choices are not punished for their length. Cloze: whether greedy decoding gives the completion
token by token (`exact_match`), or its last word when the rest is given (`last_word`); LAMBADA is
the case of one word, where both are equal.

Source: Gao et al., lm-evaluation-harness 0.4.13: `acc` and `acc_bytes` of output type
multiple_choice (its `acc_norm` divides by characters: the same for ASCII); for cloze Paperno et
al., The LAMBADA dataset (2016).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from models.benchmarks.config import MultipleChoiceConfig
from models.benchmarks.continuations import (
    Continuation,
    Likelihood,
    encode_pairs,
    fit_context,
    likelihoods,
)
from models.benchmarks.questions import Question, Questions, draw_examples
from models.errors import DataError, ModelError
from models.language.likelihood import perplexity
from models.language.tokenizer import NO_LIMIT, encode_prompts, encode_turns
from models.statistics.intervals import Interval, wilson_interval

BETWEEN = "\n\n"
"""Between the examples of a plain few-shot prompt."""

Examples: TypeAlias = Sequence[Sequence[Question]]
"""Solved questions shown before each question."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A model's answers to a file of questions.

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
        subjects = sorted(set(self.subjects))
        if subjects == [""]:
            return {}
        found: dict[str, dict[str, Interval]] = {}
        for subject in subjects:
            own = [one == subject for one in self.subjects]
            found[subject or "(none)"] = {
                name: wilson_interval(sum(itertools.compress(one, own)), sum(own))
                for name, one in self.correct.items()
            }
        return found

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
        seed: Of the choice of examples; the same for every model that is compared.
        shown: Where examples come from; the other questions if None.

    Raises:
        DataError: Too few examples, or an answer that leaves no room for its question.
        ModelError: The model's log-likelihoods are not finite, or chat prompts without a template.
    """
    examples = draw_examples(questions, config.shots, seed, shown=shown)
    return answer_after(model, tokenizer, questions, examples, config)


def answer_after(
    model: Any,
    tokenizer: Any,
    questions: Questions,
    examples: Examples,
    config: MultipleChoiceConfig,
) -> Answers:
    """Have a model answer questions, each behind its own examples; see `answer_questions`."""
    limit: int = model.config.max_position_embeddings
    if config.prompt == "chat":
        encoded = _encode_chat(tokenizer, questions, examples, limit)
    else:
        encoded = _encode_plain(tokenizer, questions, examples, limit, config.delimiter)
    groups, heads = encoded.groups, encoded.heads
    rows = [one for group in groups for one in group]
    lasts = [_last_word(group[0], head) for group, head in zip(groups, heads, strict=True) if head]
    found = likelihoods(model, [*rows, *lasts])
    if not all(math.isfinite(one.logprob) for one in found):
        raise ModelError(
            f"the model's log-likelihoods on {questions.name} are not all finite, wanted numbers; "
            "its weights have diverged: take an earlier checkpoint"
        )
    grouped, words = _grouped(found, questions), iter(found[len(rows) :])
    last = [next(words) if head else group[0] for group, head in zip(grouped, heads, strict=True)]
    return _answers(questions, grouped, last, encoded.cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedQuestions:
    """Questions as token ids.

    Attributes:
        groups: Each row's answers behind its context.
        heads: Tokens of each cloze's completion before its last word; 0 where there are none.
        cut: Rows whose context lost its beginning.
    """

    groups: list[list[Continuation]]
    heads: list[int]
    cut: int


def behind(context: str, answer: str, delimiter: str) -> str:
    """Put the delimiter before an answer, unless there is white space already."""
    spaced = not context or context[-1].isspace() or answer[0].isspace()
    return answer if spaced else delimiter + answer


def solved_text(question: Question, delimiter: str) -> str:
    """Write a question with its right answer, as an example of a plain prompt."""
    return question.context + behind(question.context, question.answer, delimiter)


def _encode_plain(
    tokenizer: Any, questions: Questions, examples: Examples, limit: int, delimiter: str
) -> EncodedQuestions:

    heads = _heads(questions)
    pairs, head_pairs = [], []
    for row, solved, head in zip(questions.rows, examples, heads, strict=True):
        blocks = [solved_text(one, delimiter) for one in solved]
        context = BETWEEN.join([*blocks, row.context])
        pairs += [(context, behind(row.context, answer, delimiter)) for answer in row.answers]
        head_pairs += [(context, behind(row.context, head, delimiter))] if head else []
    encoded_heads = iter(encode_pairs(tokenizer, head_pairs))
    groups = _grouped(encode_pairs(tokenizer, pairs), questions)
    rooms = _rooms([[one.continuation for one in group] for group in groups], limit, questions)
    fitted = [fit_context(group, room) for group, room in zip(groups, rooms, strict=True)]
    return EncodedQuestions(
        groups=[group for group, _ in fitted],
        heads=[len(next(encoded_heads).continuation) if head else 0 for head in heads],
        cut=sum(was_cut for _, was_cut in fitted),
    )


def _encode_chat(
    tokenizer: Any, questions: Questions, examples: Examples, limit: int
) -> EncodedQuestions:
    """Encode turns of user and assistant by the model's template; long ones lose old turns."""
    prompts = []
    for row, solved in zip(questions.rows, examples, strict=True):
        messages = []
        for one in solved:
            messages.append({"role": "user", "content": one.context})
            messages.append({"role": "assistant", "content": one.answer})
        prompts.append([*messages, {"role": "user", "content": row.context}])
    texts = [answer for row in questions.rows for answer in row.answers]
    answers = _grouped(encode_turns(tokenizer, texts), questions)
    rooms = _rooms(answers, limit, questions)
    whole = encode_prompts(tokenizer, prompts, NO_LIMIT)
    contexts = encode_prompts(tokenizer, prompts, rooms)
    heads = _heads(questions)
    begun = encode_turns(tokenizer, heads)
    return EncodedQuestions(
        groups=[
            [Continuation(context=context, continuation=ids) for ids in group]
            for context, group in zip(contexts, answers, strict=True)
        ],
        heads=[len(ids) if head else 0 for ids, head in zip(begun, heads, strict=True)],
        cut=sum(len(one) > room for one, room in zip(whole, rooms, strict=True)),
    )


def _grouped(flat: Sequence[T], questions: Questions) -> list[list[T]]:
    rest = iter(flat)
    return [list(itertools.islice(rest, len(row.answers))) for row in questions.rows]


def _rooms(
    answers: Sequence[Sequence[Sequence[int]]], limit: int, questions: Questions
) -> list[int]:
    """Count the tokens that the longest answer of each row leaves for its context."""
    rooms = [limit - max(map(len, group)) for group in answers]
    for row, room in zip(questions.rows, rooms, strict=True):
        if room < 1:
            raise DataError(
                f"{questions.name}, line {row.line}: an answer has {limit - room} tokens, wanted "
                f"fewer than the model's context of {limit}; shorten it or leave the row out"
            )
    return rooms


def _heads(questions: Questions) -> list[str]:
    """Give each cloze's completion without its last word; empty where there is no more."""
    if questions.kind == "choice":
        return [""] * len(questions.rows)
    words = [row.answer.rstrip().rsplit(maxsplit=1) for row in questions.rows]
    return [one[0] if len(one) == 2 else "" for one in words]


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
    chance = math.nan
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
        # The first of equal ones, like NumPy's argmax.
        chosen = [group.index(max(group)) for group in logprobs]
        correct = {
            "accuracy": [one == row.label for one, row in zip(chosen, rows, strict=True)],
            "accuracy_norm": [
                group.index(max(group)) == row.label
                for group, row in zip(per_byte, rows, strict=True)
            ],
        }
        chance = sum(1 / len(row.answers) for row in rows) / len(rows)
    return Answers(
        correct=correct,
        chosen=chosen,
        logprobs=logprobs,
        subjects=[row.subject for row in rows],
        chance=chance,
        perplexity=perplexity(-sum(one.logprob for one in right), sum(one.tokens for one in right)),
        cut=cut,
    )
