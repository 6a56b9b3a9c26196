"""Tasks by prompts: the texts that the model reads, by hand, and answers against a slow loop."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.benchmarks.config import InContextConfig
from models.benchmarks.in_context import as_questions, fit_examples, learn_in_context
from models.benchmarks.questions import Question, Questions, draw_examples
from models.errors import DataError, ParameterError
from models.language.folders import load_causal_model, save_model
from models.language.tokenizer import encode_texts
from models.rows import write_rows
from models.statistics.intervals import wilson_interval

ENTAILMENT = {
    "kind": "classification",
    "labels": ["entailment", "neutral", "contradiction"],
    "prompt": "{0}\nQuestion: {1} Yes, maybe or no?\nAnswer:",
    "answers": [" yes", " maybe", " no"],
}
WORDS = ["cat", "dog", "hill", "mat", "day", "sum"]


def row(number: int, label: int) -> dict[str, Any]:
    return {"texts": [f"the {WORDS[number % 6]}", f"a {WORDS[number // 6]}"], "label": label}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    tasks = {
        "entailment": ENTAILMENT,
        "similarity": {"kind": "regression", "labels": []},
        "choice": {"kind": "choice", "labels": []},
    }
    (tmp_path / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    write_rows(
        tmp_path / "entailment_train.jsonl", [row(n, 0 if n < 4 else n % 3) for n in range(12)]
    )
    write_rows(tmp_path / "entailment_heldout.jsonl", [row(20 + n, n % 3) for n in range(9)])
    return tmp_path


@pytest.fixture
def base(tmp_path: Path, tokenizer: Any, make_network: Callable[..., Any]) -> Path:
    network = make_network("llama", vocab=len(tokenizer), context=128, spread=0.3)
    network.config.pad_token_id = tokenizer.pad_token_id
    save_model(network, tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_rows_become_questions_with_answers_in_words(data: Path) -> None:
    asked = as_questions(data, "entailment", [{"texts": ["a cat", "a dog"], "label": 2}])
    assert asked.rows == [
        Question(
            line=1,
            context="a cat\nQuestion: a dog Yes, maybe or no?\nAnswer:",
            answers=(" yes", " maybe", " no"),
            label=2,
            subject="",
        )
    ]
    choice = as_questions(data, "choice", [{"texts": ["a cat", "sat", "ran"], "label": 1}])
    assert (choice.rows[0].context, choice.rows[0].answers) == ("a cat", ("sat", "ran"))
    with pytest.raises(ParameterError, match="'similarity' cannot be asked by a prompt, wanted"):
        as_questions(data, "similarity", [row(0, 1)])
    with pytest.raises(DataError, match="task choice has no rows"):
        as_questions(data, "choice", [])


def test_answers_are_the_likeliest_words_behind_the_examples(
    data: Path, base: Path, tokenizer: Any
) -> None:
    config = InContextConfig(few=2, questions=8)
    found = learn_in_context(
        base=base, data=data, task="entailment", config=config, seed=3, device="cpu"
    )
    examples = as_questions(data, "entailment", [row(n, 0 if n < 4 else n % 3) for n in range(12)])
    asked = as_questions(data, "entailment", [row(20 + n, n % 3) for n in range(8)])
    model = load_causal_model(base)
    drawn = draw_examples(asked, 1, 3, shown=examples)
    expected = []
    for question, (shown,) in zip(asked.rows, drawn, strict=True):
        prompt = f"{shown.context}{shown.answer}\n\n{question.context}"
        logprobs = []
        for answer in question.answers:
            before, whole = encode_texts(tokenizer, [prompt, prompt + answer])
            logits = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            logprobs.append(
                sum(logits[at - 1, whole[at]].item() for at in range(len(before), len(whole)))
            )
        expected.append(logprobs)
    one = found.by_shots["one"]
    assert one.shown == 1.0
    for measured, slow in zip(one.answers.logprobs, expected, strict=True):
        assert measured == pytest.approx(slow, abs=1e-4)  # float32 against float64
    right = sum(max(range(3), key=one.__getitem__) == n % 3 for n, one in enumerate(expected))
    metrics, share = found.metrics(), wilson_interval(right, 8)
    assert metrics["in_context/accuracy_one"] == share.mean
    assert metrics["in_context/accuracy_one_high"] == share.high
    # Training labels: 0 of rows 0 to 3, then 1 2 0 1 2 0 1 2: six times 0, three 1, three 2.
    assert found.majority == 3 / 8
    assert set(found.by_shots) == {"zero", "one", "few"}


def test_examples_that_do_not_fit_are_left_out_whole(tokenizer: Any) -> None:
    def question(text: str) -> Question:
        return Question(line=1, context=text, answers=(" yes", " no"), label=0, subject="")

    first, second, asked = question("a dog ran home"), question("the cat"), question("the mat")
    questions = Questions(name="q", kind="choice", rows=[asked])

    def size(*texts: str) -> int:
        return max(len(ids) for ids in encode_texts(tokenizer, texts))

    own = size("the mat yes", "the mat no")
    second_size, first_size = size("the cat yes\n\n"), size("a dog ran home yes\n\n")
    for limit, kept in (
        (own, []),
        (own + second_size - 1, []),
        (own + second_size, [second]),
        (own + second_size + first_size - 1, [second]),
        (own + second_size + first_size, [first, second]),
    ):
        assert fit_examples(tokenizer, questions, [[first, second]], limit) == [kept]
    with pytest.raises(DataError, match="none of the 1 questions of q fits into the model's cont"):
        fit_examples(tokenizer, questions, [[first, second]], own - 1)
