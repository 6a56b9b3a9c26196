"""Which tokens of a demonstration count in the loss: token by token, by hand and by an oracle.

The oracle is transformers' own mask of what an assistant wrote, from templates that mark it.
"""

import copy
from typing import Any

import pytest

from models.language.examples import encode_demonstrations
from models.language.tokenizer import encode_texts

EOS = 1
SYSTEM, USER, ASSISTANT = 2, 3, 4  # the role tokens
TURNS = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "what is the cat?"},
    {"role": "assistant", "content": "the cat sat"},
    {"role": "user", "content": "and the dog?"},
    {"role": "assistant", "content": "a dog ran home"},
]

GENERATED = "{%- generation -%}{{- m['content'] + eos_token -}}{%- endgeneration -%}"
BARE = "{{- m['content'] -}}"
END_TOKEN = GENERATED.replace("{%- endgeneration", "{{- '\\n' -}}{%- endgeneration")


def _template(assistant: str) -> str:
    return (
        "{%- for m in messages -%}"
        "{%- if m['role'] == 'assistant' -%}{{- '<|assistant|>' -}}" + assistant + "{%- else -%}"
        "{{- '<|' + m['role'] + '|>' + m['content'] -}}{%- endif -%}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
    )


@pytest.fixture
def templated(tokenizer: Any) -> Any:
    def make(template: str) -> Any:
        other = copy.deepcopy(tokenizer)
        other.chat_template = template
        return other

    return make


def _row(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"prompt": messages[:-1], "completion": messages[-1:]}


def _learned(
    tokenizer: Any, row: dict[str, Any], room: int = 64, **turns: Any
) -> list[tuple[int, bool]]:
    """Each token with whether it counts."""
    encoded = encode_demonstrations(tokenizer, [row], room, **turns)
    ids = encoded.prompts[0] + encoded.completions[0]
    return list(zip(ids, encoded.loss_mask(0), strict=True))


def _spell(tokenizer: Any, *parts: tuple[int | str, bool]) -> list[tuple[int, bool]]:
    """Tokens of special ids and texts, each part with whether it counts."""
    return [
        (token, counts)
        for part, counts in parts
        for token in ([part] if isinstance(part, int) else encode_texts(tokenizer, [part])[0])
    ]


def test_plain_text_counts_from_the_completion_on(tokenizer: Any) -> None:
    row = {"prompt": "the cat", "completion": " sat on the mat"}
    wanted = _spell(tokenizer, ("the cat", False), (" sat on the mat", True), (EOS, True))
    assert _learned(tokenizer, row) == wanted


def test_a_single_turn_counts_from_the_answer_on(tokenizer: Any) -> None:
    assert _learned(tokenizer, _row(TURNS[1:3])) == _spell(
        tokenizer, (USER, False), ("what is the cat?", False), (ASSISTANT, False),
        ("the cat sat", True), (EOS, True),
    )  # fmt: skip


@pytest.mark.parametrize("turns", ["all", "last"])
def test_every_turn_of_the_assistant_counts_unless_the_last_alone_is_wanted(
    tokenizer: Any, turns: str
) -> None:
    earlier = turns == "all"
    assert _learned(tokenizer, _row(TURNS), turns=turns) == _spell(
        tokenizer,
        (SYSTEM, False), ("be kind", False),
        (USER, False), ("what is the cat?", False),
        (ASSISTANT, False), ("the cat sat", earlier), (EOS, earlier),
        (USER, False), ("and the dog?", False),
        (ASSISTANT, False), ("a dog ran home", True), (EOS, True),
    )  # fmt: skip


def test_a_template_without_eos_after_a_turn_teaches_its_text_alone(templated: Any) -> None:
    tokenizer = templated(_template(BARE))
    assert _learned(tokenizer, _row(TURNS[1:])) == _spell(
        tokenizer,
        (USER, False), ("what is the cat?", False), (ASSISTANT, False), ("the cat sat", True),
        (USER, False), ("and the dog?", False), (ASSISTANT, False), ("a dog ran home", True),
        (EOS, True),
    )  # fmt: skip


def test_what_a_template_writes_behind_the_end_of_a_turn_does_not_count(templated: Any) -> None:
    tokenizer = templated(_template(END_TOKEN))
    assert _learned(tokenizer, _row(TURNS[1:])) == _spell(
        tokenizer,
        (USER, False), ("what is the cat?", False), (ASSISTANT, False), ("the cat sat", True),
        (EOS, True), ("\n", False),
        (USER, False), ("and the dog?", False), (ASSISTANT, False), ("a dog ran home", True),
        (EOS, True),
    )  # fmt: skip


def test_a_template_that_folds_the_system_message_keeps_the_mask_exact(templated: Any) -> None:
    folding = (
        "{%- for m in messages -%}"
        "{%- if m['role'] == 'assistant' -%}{{- '<|assistant|>' + m['content'] + eos_token -}}"
        "{%- elif m['role'] == 'user' -%}"
        "{%- if loop.index0 == 1 and messages[0]['role'] == 'system' -%}"
        "{{- '<|user|>[' + messages[0]['content'] + ']' + m['content'] -}}"
        "{%- else -%}{{- '<|user|>' + m['content'] -}}{%- endif -%}"
        "{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
    )
    tokenizer = templated(folding)
    assert _learned(tokenizer, _row(TURNS)) == _spell(
        tokenizer,
        (USER, False), ("[", False), ("be kind", False), ("]", False), ("what is the cat?", False),
        (ASSISTANT, False), ("the cat sat", True), (EOS, True),
        (USER, False), ("and the dog?", False),
        (ASSISTANT, False), ("a dog ran home", True), (EOS, True),
    )  # fmt: skip


def test_a_shortened_prompt_keeps_the_mask_of_the_turns_that_are_left(tokenizer: Any) -> None:
    messages = [*TURNS[1:], {"role": "user", "content": "home?"}, TURNS[2]]
    whole = _learned(tokenizer, _row(messages))
    shorter = _learned(tokenizer, _row(messages), len(whole) - 1)
    assert shorter == _learned(tokenizer, _row(messages[2:]))  # the oldest turn went as a whole
    assert sum(counts for _, counts in shorter) < sum(counts for _, counts in whole)


def test_a_turn_that_lost_its_beginning_is_context_only(tokenizer: Any) -> None:
    """Without a message of a user nothing but the first turn's own beginning can be cut."""
    messages = [TURNS[4], TURNS[2]]
    whole = _learned(tokenizer, _row(messages))
    assert [counts for _, counts in whole[1:]].count(True) == len(whole) - 2  # all but two roles
    shorter = _learned(tokenizer, _row(messages), len(whole) - 2)
    gone = encode_texts(tokenizer, ["a dog ran home"])[0][2:]
    assert shorter == [
        (ASSISTANT, False), *((token, False) for token in gone), (EOS, False), (ASSISTANT, False),
        *_spell(tokenizer, ("the cat sat", True), (EOS, True)),
    ]  # fmt: skip


def test_a_turn_of_weight_zero_is_context_only(tokenizer: Any) -> None:
    messages = [dict(one) for one in TURNS[1:]]
    messages[1]["weight"] = 0  # type: ignore[assignment]
    assert _learned(tokenizer, _row(messages)) == _learned(tokenizer, _row(TURNS[1:]), turns="last")


@pytest.mark.parametrize("count", [2, 4, 6])
@pytest.mark.parametrize("system", [False, True], ids=["no system", "system"])
@pytest.mark.parametrize(
    "content",
    ["the cat sat", "", "  naïve 你好 ", "<|eos|>x"],
    ids=["words", "empty", "odd", "eos"],
)
def test_masks_equal_those_of_transformers(
    tokenizer: Any, count: int, system: bool, content: str
) -> None:
    turns = [
        {"role": ("user", "assistant")[at % 2], "content": f"{content}{'?' * at}"}
        for at in range(count)
    ]
    messages = TURNS[: int(system)] + turns
    oracle = tokenizer.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True
    )
    found = _learned(tokenizer, _row(messages), 400)
    if "<|eos|>" in content:  # transformers makes a special token of what a person wrote
        assert sum(token == EOS for token, _ in found) == count // 2
        return
    assert [token for token, _ in found] == oracle["input_ids"]
    assert [int(counts) for _, counts in found] == oracle["assistant_masks"]
