"""Multiple choice and cloze against a slow loop: one text at a time, float64, no packing."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.benchmarks.config import MultipleChoiceConfig
from models.benchmarks.continuations import Continuation, encode_pairs, fit_context, likelihoods
from models.benchmarks.multiple_choice import Answers, answer_questions
from models.benchmarks.questions import Questions, draw_examples, read_questions
from models.errors import DataError, ModelError
from models.language.tokenizer import decode_completion, encode_prompt, encode_texts
from models.statistics.intervals import wilson_interval

CHOICES = [
    {
        "question": question,
        "choices": choices,
        "label": (1, 1, 0, 2, 0, 1)[index],  # long ones too, which accuracy_norm can find
        "subject": ("animals", "sums")[index % 2],
    }
    for index, (question, choices) in enumerate(
        [
            ("the cat sat on the", ["mat", "old green hill", "day"]),
            ("what is the sum of two and three?", ["five", "it is two and three."]),
            ("a dog ran", ["home over the hill", "mat", "three", "all day"]),
            ("two and two is", ["four", "a dog", "你好"]),
            ("the cat slept", ["green hill", "home"]),
            ("今天天气", ["很好", "世界"]),
        ]
    )
]
CLOZES = [
    {"context": "the cat sat on the", "completion": "mat"},
    {"context": "a dog ran home over", "completion": "the old green hill"},
    {"context": "", "completion": "what is the sum"},
    {"context": "slept all ", "completion": "day"},
]


@pytest.fixture(scope="module")
def network(tokenizer: Any, make_network: Callable[..., Any]) -> Any:
    return make_network("llama", vocab=len(tokenizer), context=64, spread=0.3)


def write(path: Path, rows: Sequence[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def questions_of(tmp_path: Path, rows: Sequence[Any]) -> Questions:
    return read_questions(write(tmp_path / "questions.jsonl", rows))


@torch.no_grad()
def slow(model: Any, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """ln p token by token, each from a forward of its own; whether greedy decoding gives it."""
    total, ids, greedy = 0.0, list(context), True
    for token in continuation:
        log_softmax = model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        total += float(log_softmax[token])
        greedy &= int(log_softmax.argmax()) == token
        ids.append(token)
    return total, greedy


def joined(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """The rule again, in its shortest words, for contexts that end with a letter."""
    whole, before = encode_texts(tokenizer, [context + continuation, context])
    return (
        whole[: len(before)] or [tokenizer.eos_token_id],
        whole[len(before) :],
    )


# --- accuracy -----------------------------------------------------------------------------------


def test_choice_accuracy_equals_a_loop_over_texts(
    network: Any, tokenizer: Any, tmp_path: Path
) -> None:
    questions = questions_of(tmp_path, CHOICES)
    found = answer_questions(network, tokenizer, questions, MultipleChoiceConfig(), seed=0)
    right, right_norm = [], []
    for row, logprobs in zip(CHOICES, found.logprobs, strict=True):
        wanted = [
            slow(network, *joined(tokenizer, row["question"], f" {choice}"))[0]
            for choice in row["choices"]
        ]
        assert logprobs == pytest.approx(wanted, rel=1e-5)  # the rounding of float32 forwards
        norm = [one / len(c.encode()) for one, c in zip(wanted, row["choices"], strict=True)]
        right.append(wanted.index(max(wanted)) == row["label"])
        right_norm.append(norm.index(max(norm)) == row["label"])
    assert found.correct == {"accuracy": right, "accuracy_norm": right_norm}
    assert right != right_norm  # else this test could not tell the two apart
    # Choices 3, 2, 4, 3, 2, 2: (1/3 + 1/2 + 1/4 + 1/3 + 1/2 + 1/2) / 6.
    assert found.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 4 + 1 / 3 + 1 / 2 + 1 / 2) / 6)
    assert found.cut == 0


def test_few_shot_plain_prompts_hold_solved_examples(
    network: Any, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [{key: row[key] for key in ("question", "choices", "label")} for row in CHOICES]
    questions = questions_of(tmp_path, rows[:3])
    config = MultipleChoiceConfig(shots=1)
    found = answer_questions(network, tokenizer, questions, config, seed=3)
    examples = draw_examples(questions, 1, 3)
    for row, (example,), logprobs in zip(rows, examples, found.logprobs, strict=False):
        solved = f"{example.context} {example.answer}"
        wanted = [
            slow(network, *joined(tokenizer, f"{solved}\n\n{row['question']}", f" {choice}"))[0]
            for choice in row["choices"]
        ]
        assert logprobs == pytest.approx(wanted, rel=1e-5)


def test_chat_prompts_go_through_the_template(network: Any, tokenizer: Any, tmp_path: Path) -> None:
    questions = questions_of(tmp_path, CHOICES[:1])
    shown = read_questions(write(tmp_path / "shown.jsonl", CHOICES[4:5]))
    config = MultipleChoiceConfig(shots=1, prompt="chat")
    found = answer_questions(network, tokenizer, questions, config, seed=0, shown=shown)
    turns = [
        {"role": "user", "content": "the cat slept"},
        {"role": "assistant", "content": "green hill"},
        {"role": "user", "content": "the cat sat on the"},
    ]
    prompt = encode_prompt(tokenizer, turns, 1000)
    wanted = [
        slow(network, prompt, encode_texts(tokenizer, [choice])[0])[0]
        for choice in CHOICES[0]["choices"]
    ]
    assert found.logprobs[0] == pytest.approx(wanted, rel=1e-5)


def test_delimiter_stands_between_question_and_answer(
    network: Any, tokenizer: Any, tmp_path: Path
) -> None:
    questions = questions_of(tmp_path, CHOICES[5:])
    config = MultipleChoiceConfig(delimiter="")
    found = answer_questions(network, tokenizer, questions, config, seed=0)
    wanted = [slow(network, *joined(tokenizer, "今天天气", one))[0] for one in ("很好", "世界")]
    assert found.logprobs[0] == pytest.approx(wanted, rel=1e-5)


def test_cloze_asks_whether_greedy_decoding_says_it(
    network: Any, tokenizer: Any, tmp_path: Path
) -> None:
    questions = questions_of(tmp_path, CLOZES)
    found = answer_questions(network, tokenizer, questions, MultipleChoiceConfig(), seed=0)
    pairs = [
        joined(tokenizer, row["context"].rstrip(), gap + row["completion"])
        for row, gap in zip(CLOZES, (" ", " ", "", " "), strict=True)
    ]
    wanted = [slow(network, *pair) for pair in pairs]
    assert [one for (one,) in found.logprobs] == pytest.approx([one for one, _ in wanted], rel=1e-5)
    tokens = sum(len(continuation) for _, continuation in pairs)
    assert found.perplexity == pytest.approx(math.exp(-sum(one for one, _ in wanted) / tokens))
    assert math.isnan(found.chance)
    assert found.chosen == [None] * 4


@torch.no_grad()
def greedy_text(model: Any, tokenizer: Any, context: str, tokens: int) -> str:
    ids = encode_texts(tokenizer, [context])[0]
    start = len(ids)
    for _ in range(tokens):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return decode_completion(tokenizer, ids[start:], context)


def test_cloze_counts_what_the_model_says_itself(tokenizer: Any, tmp_path: Path) -> None:
    """After " the" it says " cat", after anything else " the", whatever came before."""
    rows = [
        {"context": "x", "completion": "the cat the cat"},  # all of it is what it says
        {"context": "x", "completion": "a the cat"},  # only the last word is
        {"context": "x", "completion": "the cat dog"},  # the first two are, the last is not
    ]
    questions = questions_of(tmp_path, rows)
    model = successor_model(tokenizer, {" the": " cat", " cat": " the"}, otherwise=" the")
    found = answer_questions(model, tokenizer, questions, MultipleChoiceConfig(), seed=0)
    assert greedy_text(model, tokenizer, "x", 3) == " the cat the"
    assert found.correct == {
        "exact_match": [True, False, False],
        "last_word": [True, True, False],
    }
    shares = found.shares()
    assert shares["last_word"] == wilson_interval(2, 3)
    metrics = found.metrics()
    assert metrics["exact_match"] == pytest.approx(1 / 3)
    assert metrics["exact_match_low"] == wilson_interval(1, 3).low
    assert "chance" not in metrics


def successor_model(tokenizer: Any, following: dict[str, str], *, otherwise: str) -> Any:
    """A GPT-2 whose next token depends on the last one alone, by a table written into its head."""
    from transformers import GPT2Config, GPT2LMHeadModel

    size = len(tokenizer)
    config = GPT2Config(
        vocab_size=size, n_embd=size, n_layer=1, n_head=1, n_positions=64,
        tie_word_embeddings=False, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    one = {text: encode_texts(tokenizer, [text])[0] for text in (*following, otherwise)}
    assert all(len(ids) == 1 for ids in one.values()), one
    with torch.no_grad():
        for parameter in model.transformer.h.parameters():
            parameter.zero_()  # a layer that adds nothing
        model.transformer.wte.weight.copy_(torch.eye(size))
        model.transformer.wpe.weight.zero_()
        head = torch.zeros(size, size)  # (next, last)
        head[one[otherwise][0]] = 1.0
        for last, after in following.items():
            head[:, one[last][0]] = 0.0
            head[one[after][0], one[last][0]] = 1.0
        model.lm_head.weight.copy_(head)
    return model


# --- tokens -------------------------------------------------------------------------------------


def test_pairs_are_split_where_the_context_alone_ends(tokenizer: Any) -> None:
    # " the" is one token of this tokenizer, so "t" + "he" merge: the continuation is what remains.
    (pair,) = encode_pairs(tokenizer, [("on the ma", "t and slept")])
    whole, context = encode_texts(tokenizer, ["on the mat and slept", "on the ma"])
    assert pair == Continuation(context=whole[: len(context)], continuation=whole[len(context) :])


def test_pairs_move_trailing_spaces_into_the_continuation(tokenizer: Any) -> None:
    assert encode_pairs(tokenizer, [("the cat  ", "sat")]) == encode_pairs(
        tokenizer, [("the cat", "  sat")]
    )


def test_pairs_begin_with_the_prefix_token_where_nothing_stands(tokenizer: Any) -> None:
    (pair,) = encode_pairs(tokenizer, [("", "the cat")])
    assert pair.context == [tokenizer.eos_token_id]
    assert pair.continuation == encode_texts(tokenizer, ["the cat"])[0]


def test_pairs_keep_a_token_to_predict_when_all_of_it_merges(tokenizer: Any) -> None:
    whole, context = encode_texts(tokenizer, [" the", " th"])
    assert len(whole) <= len(context)  # else this example does not merge
    (pair,) = encode_pairs(tokenizer, [("on th", "e")])
    assert len(pair.continuation) == 1


def test_contexts_of_a_row_are_cut_alike_from_the_left() -> None:
    group = [
        Continuation(context=[1, 2, 3, 4, 5], continuation=[6]),
        Continuation(context=[1, 2, 3, 4, 5], continuation=[7, 8, 9]),
    ]
    fitted, cut = fit_context(group, 3)
    assert [one.context for one in fitted] == [[3, 4, 5], [3, 4, 5]]
    assert cut
    assert fit_context(group, 5) == (group, False)


@pytest.mark.parametrize("prompt", ["plain", "chat"])
def test_contexts_that_are_too_long_are_cut_and_counted(
    network: Any, tokenizer: Any, tmp_path: Path, prompt: Any
) -> None:
    long = {"question": "a dog ran home. " * 40, "choices": ["mat", "hill"], "label": 0}
    questions = questions_of(tmp_path, [long, CHOICES[0]])
    config = MultipleChoiceConfig(prompt=prompt)
    found = answer_questions(network, tokenizer, questions, config, seed=0)
    assert found.cut == 1
    assert found.metrics()["cut_contexts"] == 1
    assert all(math.isfinite(one) for row in found.logprobs for one in row)


def test_answers_that_fill_the_context_are_refused_with_their_line(
    network: Any, tokenizer: Any, tmp_path: Path
) -> None:
    long = {"question": "a", "choices": ["x" * 100, "b"], "label": 0}
    questions = questions_of(tmp_path, [CHOICES[0], long])
    with pytest.raises(DataError, match=r"questions.jsonl, line 2: an answer has \d+ tokens"):
        answer_questions(network, tokenizer, questions, MultipleChoiceConfig(), seed=0)


def test_likelihoods_do_not_depend_on_neighbours(network: Any) -> None:
    rows = [
        Continuation(context=[5] * (3 + index), continuation=[6, 7 + index]) for index in range(5)
    ]
    together = likelihoods(network, rows)
    for row, found in zip(rows, together, strict=True):
        assert likelihoods(network, [row])[0].logprob == pytest.approx(found.logprob, rel=1e-5)
        assert found.tokens == 2
    assert likelihoods(network, []) == []


def test_diverged_models_are_refused(
    tokenizer: Any, make_network: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_network("llama", vocab=len(tokenizer))
    torch.nn.init.constant_(model.get_output_embeddings().weight, math.nan)
    with pytest.raises(ModelError, match="not all finite"):
        answer_questions(
            model, tokenizer, questions_of(tmp_path, CHOICES), MultipleChoiceConfig(), seed=0
        )


# --- subjects and examples ----------------------------------------------------------------------


def test_answers_are_grouped_by_subject() -> None:
    answers = Answers(
        correct={"accuracy": [True, False, True]},
        chosen=[0, 0, 0],
        logprobs=[[0.0]] * 3,
        subjects=["sums", "sums", ""],
        chance=0.5,
        perplexity=1.0,
        cut=0,
    )
    grouped = answers.by_subject()
    assert grouped["sums"]["accuracy"] == wilson_interval(1, 2)
    assert grouped["(none)"]["accuracy"] == wilson_interval(1, 1)


def test_examples_are_of_the_subject_and_never_the_question(tmp_path: Path) -> None:
    rows = [*CHOICES, CHOICES[0]]  # a twin
    questions = questions_of(tmp_path, rows)
    drawn = draw_examples(questions, 2, 5)
    for row, examples in zip(questions.rows, drawn, strict=True):
        assert len({one.line for one in examples}) == 2
        assert all(one.subject == row.subject for one in examples)
        assert all(one.context != row.context for one in examples)
    assert drawn == draw_examples(questions, 2, 5)
    assert drawn != draw_examples(questions, 2, 6)


def test_examples_that_are_too_few_are_refused(tmp_path: Path) -> None:
    questions = questions_of(tmp_path, CHOICES)
    with pytest.raises(DataError, match=r"line 1: .* 2 examples of subject 'animals'.*wanted 3"):
        draw_examples(questions, 3, 0)
    clozes = read_questions(write(tmp_path / "clozes.jsonl", CLOZES))
    with pytest.raises(DataError, match="must be of the questions' kind"):
        draw_examples(questions, 1, 0, shown=clozes)


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{not json", "Expecting property name"),
        ("[1]", "choices, label missing in [1]"),
        ({"question": "a", "choices": ["b", "c"]}, "label missing"),
        ({"question": "a", "choices": ["b", "c"], "label": 2}, "whole number from 0 to 1"),
        ({"question": "a", "choices": ["b", "c"], "label": True}, "label is true"),
        ({"question": "a", "choices": ["b", "c"], "label": "1"}, 'label is "1"'),
        ({"question": "a", "choices": ["b"], "label": 0}, "at least two"),
        ({"question": "a", "choices": "bc", "label": 0}, "at least two"),
        ({"question": "a", "choices": ["b", " b"], "label": 0}, "holds a text twice"),
        ({"question": " ", "choices": ["b", "c"], "label": 0}, "question is"),
        ({"question": "a", "choices": ["b", ""], "label": 0}, "a choice is"),
        ({"question": "a", "choices": ["b", "c"], "label": 0, "subject": 3}, "subject is 3"),
        ({"context": "a", "completion": "b"}, "question, choices, label missing"),
        (r'{"question": "\ud83d", "choices": ["b", "c"], "label": 0}', "question has half a char"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError) as raised:
        questions_of(tmp_path, [CHOICES[0], "", row])
    assert "questions.jsonl, line 3: " in str(raised.value)
    assert message in str(raised.value)


def test_first_row_tells_the_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: .*wanted an object with question"):
        questions_of(tmp_path, [{"prompt": "a"}])
    with pytest.raises(DataError, match="completion is"):
        questions_of(tmp_path, [{"context": "a", "completion": " "}])


def test_texts_may_hold_other_line_ends(tmp_path: Path) -> None:
    row = {"context": "a\u2028b", "completion": "c"}
    assert questions_of(tmp_path, [row]).rows[0].context == "a\u2028b"


def test_byte_order_marks_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_text('{"context": "a", "completion": "b"}\n', encoding="utf-8-sig")
    assert read_questions(path).rows[0].context == "a"


def test_files_without_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        questions_of(tmp_path, [""])
    with pytest.raises(DataError, match="cannot be read"):
        read_questions(tmp_path / "none.jsonl")
