"""GPT-1's input formats: the exact ids of every family, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError, ModelError, ParameterError
from models.families.config import Kind
from models.heads.formats import (
    LaidOut,
    Task,
    lay_out_rows,
    read_task,
    shorten,
    special_tokens,
)
from tests.models.heads.conftest import (
    BIRD,
    CAT,
    CHOICE,
    CLS,
    DOG,
    ENTAILMENT,
    EOS,
    RED,
    SAT,
    SEP,
    SIMILARITY,
    A,
)

POLARITY = Task(name="polarity", kind="classification", labels=("negative", "positive"))


def lay_out(
    words: Any, kind: Kind, task: Task, *texts: str, label: float = 1, most: int = 24
) -> LaidOut:
    rows = [{"texts": list(texts), "label": label}]
    special = special_tokens(words, kind)
    return lay_out_rows(words, rows, task=task, special=special, max_tokens=most)[0]


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("causal", [EOS, A, CAT, EOS]),
        ("masked", [CLS, A, CAT, SEP]),
        ("seq2seq", [A, CAT, EOS]),
    ],
)
def test_formats_of_one_text(words: Any, kind: Kind, ids: list[int]) -> None:
    row = lay_out(words, kind, POLARITY, "a cat")
    assert row == LaidOut(sequences=[ids], types=[[0] * len(ids)], label=1.0, cut=False)


@pytest.mark.parametrize(
    ("kind", "ids", "types"),
    [
        ("causal", [EOS, A, CAT, EOS, DOG, SAT, EOS], [0, 0, 0, 0, 1, 1, 1]),
        ("masked", [CLS, A, CAT, SEP, DOG, SAT, SEP], [0, 0, 0, 0, 1, 1, 1]),
        ("seq2seq", [A, CAT, EOS, DOG, SAT, EOS], [0, 0, 0, 1, 1, 1]),
    ],
)
def test_formats_of_two_texts(words: Any, kind: Kind, ids: list[int], types: list[int]) -> None:
    row = lay_out(words, kind, ENTAILMENT, "a cat", "dog sat", label=2)
    assert (row.sequences, row.types, row.label) == ([ids], [types], 2.0)


def test_formats_of_similarity_have_both_orders(words: Any) -> None:
    row = lay_out(words, "masked", SIMILARITY, "a cat", "dog", label=3.7)
    assert row.sequences == [[CLS, A, CAT, SEP, DOG, SEP], [CLS, DOG, SEP, A, CAT, SEP]]
    assert row.types == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert row.label == 3.7


def test_formats_of_a_choice_have_the_context_with_each_option(words: Any) -> None:
    row = lay_out(words, "causal", CHOICE, "a red", "cat", "dog sat", "bird", label=2)
    assert row.sequences == [
        [EOS, A, RED, EOS, CAT, EOS],
        [EOS, A, RED, EOS, DOG, SAT, EOS],
        [EOS, A, RED, EOS, BIRD, EOS],
    ]


def test_formats_take_a_bart_that_begins_texts_with_bos(words: Any) -> None:
    words = type(words)(
        tokenizer_object=words.backend_tokenizer, eos_token="[EOS]", bos_token="[CLS]"
    )
    assert lay_out(words, "seq2seq", POLARITY, "a cat").sequences == [[CLS, A, CAT, EOS]]


def test_formats_cut_the_longest_text_at_its_end(words: Any) -> None:
    # 7 tokens with 3 special ones leave 4: of 4 and 2 words the longer loses two.
    row = lay_out(words, "causal", ENTAILMENT, "a red cat sat", "dog sat", most=7)
    assert (row.sequences, row.cut) == ([[EOS, A, RED, EOS, DOG, SAT, EOS]], True)
    assert shorten([[1, 2, 3], [4, 5, 6]], 5) == [[1, 2, 3], [4, 5]]  # of equal ones the last
    with pytest.raises(ParameterError, match="leaves 1 tokens for 2 texts"):
        lay_out(words, "causal", ENTAILMENT, "a", "a", most=4)


def test_formats_never_read_special_tokens_in_texts(words: Any) -> None:
    ids = lay_out(words, "masked", POLARITY, "a [SEP] cat").sequences[0]
    assert ids.count(SEP) == 1


def test_formats_refuse_what_is_no_label(words: Any) -> None:
    with pytest.raises(DataError, match="row 1 of task entailment has label 3 and 3 classes"):
        lay_out(words, "causal", ENTAILMENT, "a", "cat", label=3)
    with pytest.raises(DataError, match="label 0 and 1 classes or options"):
        lay_out(words, "causal", CHOICE, "a", "cat", label=0)
    rows = [{"texts": ["a"], "label": 0}, {"texts": ["a", "cat"], "label": 0}]
    special = special_tokens(words, "causal")
    with pytest.raises(DataError, match="row 2 of task polarity has 2 texts and the first row 1"):
        lay_out_rows(words, rows, task=POLARITY, special=special, max_tokens=24)


def test_masked_models_want_cls_and_sep(tokenizer: Any) -> None:
    with pytest.raises(ModelError, match="has CLS None and SEP None"):
        special_tokens(tokenizer, "masked")


def test_a_task_is_read_by_its_name(tmp_path: Path) -> None:
    tasks = {
        "entailment": {"kind": "classification", "labels": ["neutral", "same", "other"]},
        "similarity": {"kind": "regression", "labels": ["unrelated", "the same"]},
    }
    (tmp_path / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    assert read_task(tmp_path, "entailment") == ENTAILMENT
    assert read_task(tmp_path, "similarity") == SIMILARITY
    assert (ENTAILMENT.outputs, SIMILARITY.outputs, CHOICE.outputs) == (3, 1, 1)
    with pytest.raises(ParameterError, match="no task 'polarity', wanted one of entailment, simil"):
        read_task(tmp_path, "polarity")
