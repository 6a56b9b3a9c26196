"""Rows that are damaged in themselves: messages, pairs, rankings and labels; see `damage_kinds`."""

import json
from typing import Any

from tests.tasks.data.damage_kinds import (
    PAIRS,
    SFT,
    THINGS,
    Kind,
    dialogue,
    jsonl,
    with_row,
)

GREETING = dialogue("Hello, what is it?", "How do I fold a sheet?", "In half.")
GREETING = [
    turn | {"role": role}
    for turn, role in zip(GREETING, ("assistant", "user", "assistant"), strict=True)
]
ASKED = dialogue("How do I fold a sheet?", "In half.")


def messages(row: Any, least: int = 6, says: str = "") -> Kind:
    """A row of damaged messages among whole ones."""
    return Kind("a.jsonl", lambda: with_messages({"messages": row}), SFT, least, says)


def with_messages(row: Any) -> bytes:
    whole = [{"messages": dialogue(*each.values())} for each in SFT]
    return with_row(row, whole)


def pair(row: dict[str, Any], says: str) -> Kind:
    """A pair that must not be kept among whole ones."""
    return Kind("a.jsonl", lambda: with_row(row, PAIRS), PAIRS, 6, says, collection="preferences")


def ranking(*rows: Any, says: str, right: Any = ()) -> Kind:
    return Kind("a.jsonl", lambda: jsonl(rows), right, len(right), says, collection="preferences")


def ranked(*ranks: Any, key: str = "rank") -> dict[str, Any]:
    return {
        "prompt": "Name a tree.",
        "answers": [
            {"answer": answer, "model": "m", key: rank}
            for answer, rank in zip(("Oak.", "Fir.", "Moss."), ranks, strict=False)
        ],
    }


def pairs_of(*pairs: tuple[str, str], prompt: str = "Name a tree.") -> list[dict[str, str]]:
    return [{"prompt": prompt, "chosen": one, "rejected": other} for one, other in pairs]


ODD = {"prompt": "Is seven odd?", "chosen": "Yes, it is.", "rejected": "No."}

MESSAGE_KINDS = {
    "content null": messages(
        [ASKED[0], {"role": "assistant", "content": None}], says="content|empty|text"
    ),
    "content missing": messages([ASKED[0], {"role": "assistant"}], says="content|text"),
    "content a number": messages(
        [ASKED[0], {"role": "assistant", "content": 4}], says="content|text"
    ),
    "no messages": messages([], says="empty|no assistant|no messages"),
    "messages null": messages(None, says="type|empty|messages"),
    "answer before question": messages(ASKED[::-1], says="prompt|user|order|begin|empty"),
    "only a system message": messages(
        [{"role": "system", "content": "Be short."}], says="no assistant|system"
    ),
    "a question and no answer": messages(ASKED[:1], says="no assistant|answer|completion"),
    "a greeting first": Kind(
        "a.jsonl",
        lambda: with_messages({"messages": GREETING}),
        [*SFT, {"prompt": GREETING[:2], "completion": "In half."}],
        6,
    ),
    "more keys in messages": Kind(
        "a.jsonl",
        lambda: with_messages(
            {"messages": [turn | {"name": None, "id": 7, "ts": "May"} for turn in ASKED]}
        ),
        [*SFT, {"prompt": ASKED[0]["content"], "completion": "In half."}],
        7,
    ),
    "an answer with weight 0": messages([ASKED[0], ASKED[1] | {"weight": 0}], says="weight"),
    "roles in capitals": Kind(
        "a.jsonl",
        lambda: with_messages(
            {"messages": [turn | {"role": turn["role"].upper()} for turn in ASKED]}
        ),
        [*SFT, {"prompt": ASKED[0]["content"], "completion": "In half."}],
        6,
        unless_kept="role",
    ),
    "an unknown role": messages(
        [ASKED[0] | {"role": "narrator"}, ASKED[1]], says="role.*narrator|narrator.*role"
    ),
    "a role that is null": messages([ASKED[0] | {"role": None}, ASKED[1]], says="role"),
    "an empty answer": messages([ASKED[0], ASKED[1] | {"content": " \n"}], says="empty"),
    "an answer of zero width": messages(
        [ASKED[0], ASKED[1] | {"content": "\u200b\ufeff"}], says="empty|zero|invisible"
    ),
    "an empty question": messages([ASKED[0] | {"content": ""}, ASKED[1]], says="empty"),
    "an image": messages(
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                ],
            },
            ASKED[1],
        ],
        says="image",
    ),
    "a message in a message": messages([[ASKED[0]], [ASKED[1]]], says="message|type|content"),
    "messages as an object": messages({"0": ASKED[0], "1": ASKED[1]}, says="messages|type|content"),
    "a tool's call as the answer": messages(
        [
            ASKED[0],
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"type": "function", "function": {"name": "fold", "arguments": "{}"}}
                ],
            },
        ],
        says="tool|content|empty",
    ),
}

PROMPT_KINDS = {
    "prompts that are numbers": Kind(
        "a.jsonl", lambda: with_row({"prompt": 7, "completion": "Odd."}), SFT, 6, "type|number|text"
    ),
    "completions that are booleans": Kind(
        "a.jsonl", lambda: with_row({"prompt": "Is 7 odd?", "completion": True}), SFT, 6, "type"
    ),
    "completions that are objects": Kind(
        "a.jsonl",
        lambda: with_row({"prompt": "Is 7 odd?", "completion": {"text": "Yes."}}),
        [*SFT, {"prompt": "Is 7 odd?", "completion": "Yes."}],
        6,
        unless_kept="type|completion",
    ),
    "completions of several texts": Kind(
        "a.jsonl",
        lambda: with_row({"prompt": "Is 7 odd?", "completion": ["Yes.", "Of course."]}),
        SFT,
        6,
        "type|completion",
    ),
    "a label that is false": Kind(
        "a.jsonl",
        lambda: jsonl([row | {"label": n % 2 == 0} for n, row in enumerate(SFT)]),
        SFT[::2],
        says="label|thumb|kto|unpaired",
    ),
    "a label that says no": Kind(
        "a.jsonl",
        lambda: jsonl(
            [row | {"label": "good" if n % 2 == 0 else "bad"} for n, row in enumerate(SFT)]
        ),
        SFT[::2],
        says="label",
    ),
    "thumbs that are 0 and 1": Kind(
        "a.csv",
        lambda: "\n".join(
            [
                "prompt,completion,label",
                *(f'{row["prompt"]},"{row["completion"]}",{n % 2}' for n, row in enumerate(SFT)),
            ]
        ).encode(),
        SFT[1::2],
        says="label|thumb|kto|unpaired",
    ),
    "an instruction with inputs": Kind(
        "a.jsonl",
        lambda: jsonl(
            [{"instruction": "Fold it.", "input": it, "output": f"Lay {it} flat."} for it in THINGS]
        ),
        [
            {"prompt": prompt, "completion": f"Lay {it} flat."}
            for it in THINGS
            for prompt in (f"Fold it.\n\n{it}", f"Fold it.\n{it}")
        ],
        6,
    ),
    "columns renamed halfway": Kind(
        "a.jsonl",
        lambda: jsonl(
            [
                *SFT[:3],
                *({"question": row["prompt"], "reply": row["completion"]} for row in SFT[3:]),
            ]
        ),
        SFT,
        3,
        unless_kept="column|question|reply",
    ),
    "a transcript as the prompt": Kind(
        "a.jsonl",
        lambda: jsonl(
            [
                {
                    "prompt": f"\n\nHuman: {row['prompt']}\n\nAssistant:",
                    "completion": f" {row['completion']}",
                }
                for row in SFT
            ]
        ),
        SFT,
        6,
    ),
    "a transcript of other speakers": Kind(
        "a.jsonl",
        lambda: jsonl(
            [
                {
                    "chosen": f"\n\nHuman: {row['prompt']}\n\nBot: {row['chosen']}",
                    "rejected": f"\n\nHuman: {row['prompt']}\n\nBot: {row['rejected']}",
                }
                for row in PAIRS
            ]
        ),
        PAIRS,
        says="Bot|transcript|speaker|turn|dialogue",
        collection="preferences",
    ),
    "a transcript that ends with the question": Kind(
        "a.jsonl",
        lambda: with_row(
            {"chosen": "\n\nHuman: Is 7 odd?", "rejected": "\n\nHuman: Is 8 odd?"},
            [
                {
                    column: f"\n\nHuman: {row['prompt']}\n\nAssistant: {row[column]}"
                    for column in ("chosen", "rejected")
                }
                for row in PAIRS
            ],
        ),
        PAIRS,
        6,
        "assistant|answer|turn|prompt",
        collection="preferences",
    ),
    "prompts alone": Kind(
        "a.jsonl",
        lambda: jsonl([{"prompt": row["prompt"]} for row in SFT]),
        says="prompt|completion",
    ),
    "pairs as demonstrations": Kind(
        "a.jsonl",
        lambda: jsonl([{"chosen": "Yes.", "rejected": "No.", "id": 3}]),
        says="preferences|chosen|rejected",
    ),
}

PAIR_KINDS = {
    "equal but for inner spaces": pair(ODD | {"rejected": "Yes,  it\nis."}, "equal|space|same"),
    "equal but for the composition of letters": pair(
        ODD | {"chosen": "Un caf\u00e9.", "rejected": "Un cafe\u0301."}, "equal|same"
    ),
    "equal but for zero width": pair(ODD | {"rejected": "Yes,\u200b it is."}, "equal|same"),
    "a pair with an empty answer": pair(ODD | {"rejected": ""}, "empty rejected"),
    "a pair without an answer": pair(ODD | {"rejected": None}, "rejected|type|empty"),
    "scores that are equal": pair(ODD | {"score_chosen": 4, "score_rejected": 4.0}, "tie|equal"),
    "scores in reverse": pair(
        ODD | {"score_chosen": 3, "score_rejected": 4}, "revers|score|contradict"
    ),
    "scores as texts in reverse": pair(
        ODD | {"score_chosen": "9.0", "score_rejected": "10.0"}, "revers|score|contradict"
    ),
    "ratings in reverse": pair(
        ODD | {"chosen-rating": 1.5, "rejected-rating": 4}, "revers|rating|contradict|lower"
    ),
    "scores of words": pair(
        ODD | {"score_chosen": "good", "score_rejected": "N/A"}, "score|number|N/A"
    ),
    "a preference for neither": pair(ODD | {"preference": "neither"}, "preference|tie|neither"),
    "a preference that nobody knows": pair(
        ODD | {"preference": "purple"}, "preference|purple|verdict"
    ),
    "a winner called tie (both bad)": Kind(
        "a.jsonl",
        lambda: jsonl(
            [
                {
                    "question_id": n,
                    "winner": winner,
                    "conversation_a": dialogue("Name a tree.", "Oak."),
                    "conversation_b": dialogue("Name a tree.", "Moss."),
                }
                for n, winner in enumerate(("model_a", "tie (bothbad)", "tie", "model_b"))
            ]
        ),
        pairs_of(("Oak.", "Moss."), ("Moss.", "Oak.")),
        2,
        "tie",
        collection="preferences",
    ),
    "two outputs and a preference beyond them": ranking(
        *(
            {
                "instruction": "Name a tree.",
                "output_1": "Oak.",
                "output_2": "Moss.",
                "preference": value,
            }
            for value in (1, 1, 3, 1, "purple", 1, None, 1, -1)
        ),
        right=pairs_of(("Oak.", "Moss.")),
        says="preference|verdict",
    ),
    "two outputs and a preference as text": ranking(
        *(
            {
                "instruction": "Name a tree.",
                "output_1": one,
                "output_2": "Moss.",
                "preference": value,
            }
            for one, value in (("Oak.", "1"), ("Fir.", "2.0"))
        ),
        right=pairs_of(("Oak.", "Moss."), ("Moss.", "Fir.")),
        says="",
    ),
    "two outputs and no preference": ranking(
        {"instruction": "Name a tree.", "output_1": "Oak.", "output_2": "Moss."},
        says="preference|unranked|output_1",
    ),
    "ranks that are equal": ranking(
        ranked(1, 2, 2), says="tie", right=pairs_of(("Oak.", "Fir."), ("Oak.", "Moss."))
    ),
    "ranks that are all equal": ranking(
        ranked(1, 1, 1), ranked(1, 2), says="tie", right=pairs_of(("Oak.", "Fir."))
    ),
    "a rank that is missing": Kind(
        "a.jsonl",
        lambda: jsonl([ranked(1, None, 3), ranked(2, 1)]),
        pairs_of(("Oak.", "Moss."), ("Fir.", "Oak.")),
        1,
        "rank",
        collection="preferences",
    ),
    "ranks that start at 7": ranking(
        ranked(9, 7, 8),
        says="",
        right=pairs_of(("Fir.", "Moss."), ("Fir.", "Oak."), ("Moss.", "Oak.")),
    ),
    "ranks as texts": ranking(
        ranked("10", "9"),
        says="",
        right=pairs_of(("Fir.", "Oak.")),
    ),
    "a ranking of one": ranking(
        ranked(1), ranked(1, 2), right=pairs_of(("Oak.", "Fir.")), says="one|single|fewer|two"
    ),
    "a ranking of none": ranking(
        ranked(),
        ranked(1, 2),
        right=pairs_of(("Oak.", "Fir.")),
        says="one|no |none|empty|fewer|two",
    ),
    "one completion twice in a ranking": ranking(
        {
            "prompt": "Name a tree.",
            "answers": [
                {"answer": "Oak.", "rank": 1},
                {"answer": "Oak. ", "rank": 2},
                {"answer": "Moss.", "rank": 3},
            ],
        },
        right=pairs_of(("Oak.", "Moss.")),
        says="equal|same|duplicate",
    ),
    "ratings of which one says N/A": ranking(
        {
            "instruction": "Name a tree.",
            "completions": [
                {"response": "Oak.", "overall_score": 8.5},
                {"response": "Fir.", "overall_score": "10"},
                {"response": "Moss.", "overall_score": "N/A"},
            ],
        },
        right=pairs_of(("Fir.", "Oak.")),
        says="score|rating|N/A",
    ),
    "answers that repeat their prompt": Kind(
        "a.jsonl",
        lambda: jsonl(
            [
                {
                    "prompt": row["prompt"],
                    "chosen": f"{row['prompt']} {row['chosen']}",
                    "rejected": f"{row['prompt']} {row['rejected']}",
                }
                for row in PAIRS
            ]
        ),
        PAIRS,
        6,
        collection="preferences",
    ),
    "pairs that differ in the question": Kind(
        "a.jsonl",
        lambda: with_row(
            {
                "chosen": dialogue("Is 7 odd?", "Yes."),
                "rejected": dialogue("Is 8 odd?", "Yes, it is."),
            },
            [
                {
                    "chosen": dialogue(row["prompt"], row["chosen"]),
                    "rejected": dialogue(row["prompt"], row["rejected"]),
                }
                for row in PAIRS
            ],
        ),
        PAIRS,
        6,
        "differ",
        collection="preferences",
    ),
    "a prompt that is not the dialogue's": Kind(
        "a.jsonl",
        lambda: with_row(
            {
                "prompt": "How do I boil an egg?",
                "chosen": dialogue("Is 7 odd?", "Yes."),
                "rejected": dialogue("Is 7 odd?", "No."),
            },
            [
                {
                    "prompt": row["prompt"],
                    "chosen": dialogue(row["prompt"], row["chosen"]),
                    "rejected": dialogue(row["prompt"], row["rejected"]),
                }
                for row in PAIRS
            ],
        ),
        PAIRS,
        6,
        "prompt",
        collection="preferences",
    ),
    "thumbs that are all down": Kind(
        "a.jsonl",
        lambda: jsonl([row | {"label": False} for row in SFT]),
        says="label|thumb|pair",
        collection="preferences",
    ),
    "thumbs for one prompt": Kind(
        "a.jsonl",
        lambda: jsonl(
            [
                {"prompt": "Name a tree.", "completion": "Oak.", "label": True},
                {"prompt": "Name a tree.", "completion": "Moss.", "label": False},
                {"prompt": "Name a fish.", "completion": "Cod.", "label": True},
            ]
        ),
        pairs_of(("Oak.", "Moss.")),
        unless_kept="label|thumb|pair",
        says="label|thumb|pair",
        collection="preferences",
    ),
    "margins of words that nobody knows": pair(ODD | {"margin": "a bit"}, "margin"),
    "a margin below zero": pair(ODD | {"margin": -1}, "margin"),
    "labels of two outputs that are out of range": ranking(
        *(
            {
                "history": "Name a tree.",
                "human_ref_A": "Oak.",
                "human_ref_B": "Moss.",
                "labels": label,
                "score_A": 5,
                "score_B": 2,
            }
            for label in (1, 2, None)
        ),
        right=pairs_of(("Oak.", "Moss.")),
        says="label",
    ),
    "a label that contradicts the scores": Kind(
        "a.jsonl",
        lambda: jsonl(
            [
                {
                    "history": "Name a tree.",
                    "human_ref_A": "Oak.",
                    "human_ref_B": "Moss.",
                    "labels": 0,
                    "score_A": 5,
                    "score_B": 2,
                },
                {
                    "history": "Name a fish.",
                    "human_ref_A": "Cod.",
                    "human_ref_B": "Gnu.",
                    "labels": 1,
                    "score_A": 5,
                    "score_B": 2,
                },
            ]
        ),
        pairs_of(("Cod.", "Gnu."), prompt="Name a fish."),
        0,
        "label|score|contradict",
        collection="preferences",
    ),
}


def tree(*replies: dict[str, Any]) -> bytes:
    row = {
        "message_tree_id": "t",
        "prompt": {
            "message_id": "m",
            "text": "Name a tree.",
            "role": "prompter",
            "replies": list(replies),
        },
    }
    return (json.dumps(row) + "\n").encode()


def reply(text: str, rank: Any, *replies: Any, role: str = "assistant") -> dict[str, Any]:
    return {"message_id": text, "text": text, "role": role, "rank": rank, "replies": list(replies)}


TREE_KINDS = {
    "a tree without ranks": Kind(
        "a.jsonl",
        lambda: tree(reply("Oak.", None), reply("Moss.", None)),
        says="rank|two|unranked",
        collection="preferences",
    ),
    "a tree with deleted replies": Kind(
        "a.jsonl",
        lambda: tree(reply("Oak.", 0), reply("Rude.", 1) | {"deleted": True}, reply("Moss.", 2)),
        pairs_of(("Oak.", "Moss.")),
        1,
        collection="preferences",
    ),
    "a tree of one path": Kind(
        "a.jsonl",
        lambda: tree(reply("Oak.", 0)),
        says="one|single|fewer|two|rank|no row",
        collection="preferences",
    ),
}
