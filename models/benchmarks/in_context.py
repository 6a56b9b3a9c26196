"""In-context learning: a task from its prompt alone, with no, one and a few solved examples.

Nothing is trained. A row becomes a question by the task's prompt, its classes the possible answers
in words; a choice's context is continued by each of its options. The model's answer is the
likeliest of them, as in multiple choice. Examples are training rows, drawn at random for each
question, the same for every model.

What differs from the paper: examples that do not fit into the context are left out, whole, and
likelihoods are not divided by those without a context.

Source: Brown et al., Language Models are Few-Shot Learners (2020), sections 2.1 and 2.4.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.benchmarks.config import InContextConfig, MultipleChoiceConfig
from models.benchmarks.multiple_choice import (
    BETWEEN,
    Answers,
    Examples,
    answer_after,
    behind,
    solved_text,
)
from models.benchmarks.questions import Question, Questions, draw_examples
from models.errors import DataError, ParameterError
from models.language.folders import load_causal_model, load_frozen, load_tokenizer
from models.language.tokenizer import encode_texts
from models.rows import read_json, read_rows

PLAIN = MultipleChoiceConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompted:
    """What a model answered with some number of examples.

    Attributes:
        shown: Mean number of examples that fitted.
    """

    answers: Answers
    shown: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InContext:
    """What a model answered with no, one and a few examples.

    Attributes:
        by_shots: By zero, one and few.
        questions: That were asked, in their order.
        majority: Accuracy of the training rows' most frequent label.
    """

    by_shots: dict[str, Prompted]
    questions: Questions
    majority: float

    def metrics(self) -> dict[str, float]:
        """Accuracy with its Wilson interval and the examples shown, by shots; and the majority."""
        found = {"in_context/majority": self.majority}
        for name, one in self.by_shots.items():
            share = one.answers.shares()["accuracy"]
            found |= share.metrics(f"in_context/accuracy_{name}")
            found[f"in_context/examples_{name}"] = one.shown
        first = self.by_shots["zero"].answers
        cut = float(first.cut)
        return found | {"in_context/rows": float(len(first.chosen)), "in_context/cut_rows": cut}


def learn_in_context(
    *, base: Path, data: Path, task: str, config: InContextConfig, seed: int, device: str
) -> InContext:
    """Have a model answer a task's held-out rows by prompts.

    Args:
        base: Folder of a causal language model.
        data: Folder with tasks.json and, for the task, rows of `texts` and `label`.
        seed: Of the choice of examples.

    Raises:
        ParameterError: No such task is there, or it has no prompt.
        DataError: There are no rows, or no question fits into the model's context.
        ModelError: The folder holds no complete causal language model.
    """
    rows = {side: read_rows(data / f"{task}_{side}.jsonl") for side in ("train", "heldout")}
    examples = as_questions(data, task, rows["train"])
    questions = as_questions(data, task, rows["heldout"][: config.questions])
    network, tokenizer = load_frozen(load_causal_model, base, device), load_tokenizer(base)
    limit: int = network.config.max_position_embeddings
    by_shots = {}
    for name, shots in (("zero", 0), ("one", 1), ("few", config.few)):
        drawn = draw_examples(questions, shots, seed, shown=examples)
        shown = fit_examples(tokenizer, questions, drawn, limit)
        by_shots[name] = Prompted(
            answers=answer_after(network, tokenizer, questions, shown, PLAIN),
            shown=math.fsum(map(len, shown)) / len(shown),
        )
    counts = Counter(row.label for row in examples.rows)
    most = min(counts, key=lambda label: (-counts[label], label))
    majority = sum(row.label == most for row in questions.rows) / len(questions.rows)
    return InContext(by_shots=by_shots, questions=questions, majority=majority)


def as_questions(data: Path, task: str, rows: Sequence[dict[str, Any]]) -> Questions:
    """Write rows as questions with their possible answers.

    Raises:
        ParameterError: No such task is there, or it has no prompt.
        DataError: There are no rows.
    """
    tasks = read_json(data / "tasks.json")
    askable = [name for name, one in tasks.items() if "prompt" in one or one["kind"] == "choice"]
    if task not in askable:
        raise ParameterError(
            f"task {task!r} cannot be asked by a prompt, wanted one of {', '.join(askable)}; "
            "choose one of them"
        )
    if not rows:
        raise DataError(f"task {task} has no rows, wanted some to ask and to show; give more data")
    about = tasks[task]
    written = []
    for line, row in enumerate(rows, start=1):
        if about["kind"] == "choice":
            context, *answers = row["texts"]
        else:
            context, answers = about["prompt"].format(*row["texts"]), about["answers"]
        written.append(
            Question(
                line=line, context=context, answers=tuple(answers), label=row["label"], subject=""
            )
        )
    return Questions(name=task, kind="choice", rows=written)


def fit_examples(
    tokenizer: Any, questions: Questions, examples: Examples, limit: int
) -> list[list[Question]]:
    """Leave out examples that do not fit before their question, the first ones first.

    Args:
        limit: The model's context.

    Raises:
        DataError: No question fits, not even without examples.
    """
    delimiter = PLAIN.delimiter
    sizes = _sizes(
        tokenizer,
        [solved_text(one, delimiter) + BETWEEN for solved in examples for one in solved],
    )
    own = [
        max(
            _sizes(
                tokenizer,
                [row.context + behind(row.context, one, delimiter) for one in row.answers],
            )
        )
        for row in questions.rows
    ]
    if min(own) > limit:
        raise DataError(
            f"none of the {len(own)} questions of {questions.name} fits into the model's context "
            f"of {limit} tokens, the shortest has {min(own)}; wanted one that does: take a model "
            "with a longer context or shorter texts"
        )
    fitted, start = [], 0
    for solved, used in zip(examples, own, strict=True):
        lengths = sizes[start : start + len(solved)]
        start += len(solved)
        kept = len(solved)
        while kept and sum(lengths[len(solved) - kept :]) + used > limit:
            kept -= 1
        fitted.append(list(solved[len(solved) - kept :]))
    return fitted


def _sizes(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in encode_texts(tokenizer, texts)]
