"""Every format of prompts and demonstrations, in rows as people publish them."""

from collections import Counter
from typing import Any

import pytest

from tasks.data.config import DataConfig
from tasks.data.formats import Collection, LeftOut, RowProblem, convert_row, recognise

Row = dict[str, Any]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


CHAT = {"prompt": [user("Is tin soft?")], "completion": [assistant("Rather.")]}
TEXT = {"prompt": "Is tin soft?", "completion": "Rather."}

# (name of the format, row as read, the demonstration)
CASES: list[tuple[str, Row, Row]] = [
    *[
        ("prompt-completion", {prompt: "Is tin soft?", completion: "Rather."}, TEXT)
        for prompt, completion in (
            ("question", "answer"), ("instruction", "response"), ("input", "output"),
            ("QUERY", "Reply"), (" Prompt ", "Completion"), ("problem", "solution"),
            ("inputs", "targets"), ("input", "target"),
        )
    ],
    (
        "prompt-completion",
        {"system_prompt": "Be brief.", "question": "Is tin soft?", "response": "Rather."},
        {"prompt": [system("Be brief."), user("Is tin soft?")], "completion": CHAT["completion"]},
    ),
    ("prompt-completion", {"system": "", "question": "Is tin soft?", "response": "Rather."}, TEXT),
    # Alpaca: instruction and input are one prompt; an empty input adds nothing.
    (
        "alpaca",
        {"instruction": "Name the metal.", "input": "Sn", "output": "Tin."},
        {"prompt": "Name the metal.\n\nSn", "completion": "Tin."},
    ),
    (
        "alpaca",
        {"prompt": "Name the metal.", "input": "Sn", "completion": "Tin."},
        {"prompt": "Name the metal.\n\nSn", "completion": "Tin."},
    ),
    ("alpaca", {"instruction": "Is tin soft?", "input": "", "output": "Rather."}, TEXT),
    (
        "alpaca",
        {"instruction": "And lead?", "input": "", "output": "More.",
         "history": [["Is tin soft?", "Rather."]]},
        {"prompt": [user("Is tin soft?"), assistant("Rather."), user("And lead?")],
         "completion": [assistant("More.")]},
    ),
    # Messages under other names.
    *[
        ("messages", row, CHAT)
        for row in (
            {"messages": [{"role": "human", "content": "Is tin soft?"},
                          {"role": "gpt", "content": "Rather."}]},
            {"conversations": [{"from": "human", "value": "Is tin soft?"},
                               {"from": "gpt", "value": "Rather."}]},
            {"dialog": [{"speaker": "User", "text": "Is tin soft?"},
                        {"speaker": "Bot", "text": "Rather."}]},
            {"conversation": [{"author": {"role": "user"}, "content": {"parts": ["Is tin soft?"]}},
                              {"author": {"role": "assistant"}, "body": "Rather."}]},
            {"messages": [{"role": "prompter", "content": [{"type": "text", "text": "Is tin "},
                                                           {"type": "text", "text": "soft?"}]},
                          {"role": "model", "content": "Rather.", "tool_calls": []}]},
            {"conversations": {"from": ["human", "gpt"], "value": ["Is tin soft?", "Rather."]}},
            {"conversation": [{"human": "Is tin soft?", "assistant": "Rather."}]},
            {"conversation": [{"system": "", "input": "Is tin soft?", "output": "Rather."}]},
            {"messages": '[{"role": "user", "content": "Is tin soft?"}, '
                         '{"role": "assistant", "content": "Rather."}]'},
            {"messages": "[{'role': 'user', 'content': 'Is tin soft?'}, "
                         "{'role': 'assistant', 'content': 'Rather.'}]"},
        )
    ],
    (
        "messages",
        {"system": "Be brief.", "conversations": [{"from": "human", "value": "Is tin soft?"},
                                                  {"from": "gpt", "value": "Rather."}]},
        {"prompt": [system("Be brief."), user("Is tin soft?")], "completion": CHAT["completion"]},
    ),
    (
        "messages",
        {"messages": [{"role": "developer", "content": "Be brief."}, user("Is tin soft?"),
                      assistant("Rather.")]},
        {"prompt": [system("Be brief."), user("Is tin soft?")], "completion": CHAT["completion"]},
    ),
    # Transcripts.
    ("prompt-completion",
     {"prompt": "\n\nHuman: Is tin soft?\n\nAssistant:", "completion": " Rather."}, CHAT),
    ("prompt-completion",
     {"instruction": "Human: Is tin soft?\n\nAssistant: ", "output": "Rather."}, CHAT),
    ("prompt-completion",
     {"prompt": "Human: Is tin soft?\nAssistant:", "completion": "Rather."}, CHAT),
    ("prompt-completion",
     {"prompt": "### Instruction:\nIs tin soft?\n\n### Response:", "completion": "Rather."}, CHAT),
    ("text", {"text": "### Human: Is tin soft?### Assistant: Rather."}, CHAT),
    ("text", {"text": "<|im_start|>user\nIs tin soft?<|im_end|>\n<|im_start|>assistant\n"
                      "Rather.<|im_end|>\n"}, CHAT),
    ("messages", {"chat": "USER: Is tin soft?\n\n\nASSISTANT: Rather."}, CHAT),
    ("messages", {"conversation": "User: Is tin soft?\n\nAssistant: Rather."}, CHAT),
    # An answer that repeats its prompt.
    (
        "prompt-completion",
        {"prompt": "Is tin soft, I ask you?", "completion": "Is tin soft, I ask you? Yes"},
        {"prompt": "Is tin soft, I ask you?", "completion": " Yes"},
    ),
    ("prompt-completion", {"prompt": [user("Is tin soft?")],
                           "completion": [user("Is tin soft?"), assistant("Rather.")]}, CHAT),
    ("prompt-completion",
     {"prompt": "\n\nHuman: Is tin soft?\n\nAssistant:",
      "completion": "\n\nHuman: Is tin soft?\n\nAssistant: Rather."}, CHAT),
    ("thumbs", {"prompt": "Is tin soft?", "completion": "Rather.", "label": True}, TEXT),
    ("thumbs-messages",
     {"messages": [*CHAT["prompt"], *CHAT["completion"]], "label": "good"}, CHAT),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "demonstration"), CASES)
def test_demonstration_is_recognised_and_read(name: str, row: Row, demonstration: Row) -> None:
    found = recognise(row)
    assert found is not None
    assert found.name == name
    assert convert_row("demonstrations", row) == [demonstration]
    assert convert_row("prompts", row) == [{"prompt": demonstration["prompt"]}]


PROMPTS: list[tuple[str, Row, Any]] = [
    ("turns", {"question_id": 1, "turns": ["Plan a walk.", "Shorter."]}, "Plan a walk."),
    ("turns", {"turns": [{"content": "Plan a walk."}]}, "Plan a walk."),
    ("messages", {"messages": [user("a"), assistant("b"), user("c")]},
     [user("a"), assistant("b"), user("c")]),
    ("prompt", {"instruction": "Plan a walk."}, "Plan a walk."),
    ("prompt", {"prompt": "\n\nHuman: Plan a walk.\n\nAssistant:"}, [user("Plan a walk.")]),
    ("messages", {"conversations": [{"from": "human", "value": "Plan a walk."}]},
     [user("Plan a walk.")]),
    ("prompt", {"prompt": "Plan a walk.", "completion": None}, "Plan a walk."),
    ("thumbs", {"prompt": "Plan a walk.", "completion": "No.", "label": False}, "Plan a walk."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "prompt"), PROMPTS)
def test_prompt_is_taken_from_whatever_has_one(name: str, row: Row, prompt: Any) -> None:
    found = recognise(row)
    assert found is not None
    assert found.name == name
    assert convert_row("prompts", row) == [{"prompt": prompt}]


def messages(*turns: Any) -> Row:
    return {"messages": [user("q"), *turns]}


PROBLEMS: list[tuple[Collection, Row, str]] = [
    ("demonstrations", messages({"role": "assistant", "content": None, "tool_calls": [{"id": 1}]},
                                assistant("a")), "messages has tool calls"),
    ("demonstrations", messages({"role": "tool", "content": "4"}, assistant("a")),
     "messages has a message of role tool"),
    ("demonstrations", messages({"role": "Alice", "content": "4"}), "messages has a role other"),
    ("demonstrations", messages({"content": "4"}),
     "wrong type: messages has a message without role; it has the key content"),
    ("demonstrations", messages({"role": "assistant", "content": [{"type": "image_url"}]}),
     "messages has a part that is no text (image_url)"),
    ("demonstrations", messages("a"), "wrong type: messages has a text where a message"),
    ("demonstrations", {"messages": "[broken"}, "wrong type: messages is a text, not a list"),
    ("demonstrations", {"prompt": "q", "completion": 4.5},
     "wrong type: completion is neither text nor messages"),
    ("demonstrations", {"prompt": "q", "completion": True}, "wrong type: completion is neither"),
    ("demonstrations", {"prompt": "q", "completion": float("nan")}, "empty completion"),
    ("demonstrations", {"instruction": "q", "input": {"a": 1}, "output": "x"},
     "wrong type: input is keys, not text"),
    ("demonstrations", {"prompt": [user("q")], "input": "x", "output": "x"},
     "an input beside a prompt that is messages"),
    ("demonstrations", {"instruction": "Answer.", "question": "q", "answer": "a"},
     "two columns could be the prompt"),
    ("demonstrations", {"problem": "q", "solution": "Since …, 3.", "answer": "3"},
     "two columns could be the completion"),
    ("demonstrations", {"prompt": "\n\nHuman: q\n\nAssistant:",
                        "completion": " a\n\nHuman: more\n\nAssistant: b"},
     "completion is not one assistant message"),
    ("demonstrations", {"text": "A plain text."}, "a text alone has no completion"),
    ("demonstrations", {"prompt": "q", "completion": "a", "label": None},
     "label says neither good nor bad"),
    ("demonstrations", {"prompt": "q", "completion": "a", "label": 3},
     "label says neither good nor bad"),
    ("demonstrations", {"prompt": "q", "completion": "a", "Text": "x", "text": "y"},
     "two columns have one name"),
    ("prompts", {"turns": []}, "empty turns"),
    ("prompts", {"prompt": "q", "history": "x"}, "wrong type: history is not a list"),
    ("corpus", {"prompt": "q", "completion": "a"},
     "recognised as a prompt and its completion, which gives no corpus; wanted a column text"),
    ("demonstrations", {"prompt": "q"}, "recognised as a prompt alone, which gives no demo"),
    ("demonstrations", {"prompt": "q", "chosen": "a", "rejected": "b"},
     "recognised as a pair of completions, chosen and rejected, which gives no demonstrations; "
     "name it as preferences only"),
]  # fmt: skip


@pytest.mark.parametrize(("collection", "row", "reason"), PROBLEMS)
def test_row_is_refused_with_its_reason(collection: Collection, row: Row, reason: str) -> None:
    with pytest.raises(RowProblem) as caught:
        convert_row(collection, row)
    assert str(caught.value).startswith(reason)
    assert "rename" not in str(caught.value)


@pytest.mark.parametrize("label", [False, 0, "false", "bad", -1, "thumbs down"])
@pytest.mark.parametrize("name", ["", "prompt-completion", "thumbs"])
def test_a_thumb_down_is_never_a_demonstration(label: object, name: str) -> None:
    row = {"prompt": "q", "completion": "a", "label": label}
    with pytest.raises(LeftOut, match="marked as bad"):
        convert_row("demonstrations", row, DataConfig(format=name))
    row = {"messages": [user("q"), assistant("a")], "label": label}
    with pytest.raises(LeftOut, match="marked as bad"):
        convert_row("demonstrations", row)
    with pytest.raises(RowProblem, match=r"thumb up or down \(KTO\), which gives no preferences"):
        convert_row("preferences", row)


@pytest.mark.parametrize(
    "text",
    [
        "Human: the word has Latin roots.",
        "User: type your name here",
        "### Assistant: how to become one",
        "Assistant: a job title.",
        'Return {"role": "user"} as JSON.',
        '["a", "b"]',
        "[{'x': 1}]",
    ],
)
def test_prose_that_looks_like_a_dialogue_stays_text(text: str) -> None:
    row = {"prompt": text, "completion": text}
    assert convert_row("demonstrations", row) == [row]


def test_notes_count_what_was_left_out() -> None:
    notes: Counter[str] = Counter()
    row = {"messages": [user("q"), assistant("a"), user("thanks")]}
    for _ in range(2):
        convert_row("demonstrations", row, notes=notes)
    convert_row("prompts", {"turns": ["a", "b"]}, notes=notes)
    convert_row("prompts", row, notes=notes)
    assert notes == {
        "turns after the last answer were left out": 2,
        "later turns of a prompt were left out": 1,
    }


def test_options_apply_before_the_last_turn_is_split_off() -> None:
    row = {"messages": [system("Be brief."), user("q"), assistant("a"), assistant("b")]}
    with pytest.raises(RowProblem, match="does not end with the user's turn"):
        convert_row("demonstrations", row)
    assert convert_row("demonstrations", row, DataConfig(join_turns=True, fold_system=True)) == [
        {"prompt": [user("Be brief.\n\nq")], "completion": [assistant("a\n\nb")]}
    ]
    pair = {"chosen": [*row["messages"][:3], assistant("c")],
            "rejected": [*row["messages"][:3], assistant("r")]}  # fmt: skip
    assert convert_row("preferences", pair, DataConfig(join_turns=True)) == [
        {
            "prompt": [system("Be brief."), user("q")],
            "chosen": [assistant("a\n\nc")],
            "rejected": [assistant("a\n\nr")],
        }
    ]
    folded = convert_row("prompts", {"system": "S", "prompt": "q"}, DataConfig(fold_system=True))
    assert folded == [{"prompt": [user("S\n\nq")]}]
