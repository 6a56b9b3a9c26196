"""The shapes in which published files and exports arrive, each in texts of our own.

Every case is read as its owner means it, or refused by its true cause; no message advises a step
that loses or invents information.
"""

import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from models.errors import QuartetError
from tasks.data.formats import Collection
from tasks.judging.prompts import read_prompt_file
from tests.tasks.data.damage_kinds import dialogue, parquet
from tests.tasks.data.witness import Outcome, Row, bring, jsonl, one_line

LAMP = "How do I clean a lamp?"
BREAD = "Why does bread rise?"
DRY, YEAST = "Unplug it and wipe it dry.", "Yeast makes gas."
SHARE = [{"from": "human", "value": LAMP}, {"from": "gpt", "value": DRY}]
ANSWERED = {"prompt": LAMP, "completion": DRY}
CHOSEN = {"prompt": LAMP, "chosen": DRY, "rejected": "Lamps shine."}
SYSTEM = {"role": "system", "content": "Answer in one line."}


def asked(*turns: str, system: bool = False) -> list[Row]:
    return [SYSTEM] * system + dialogue(*turns)


def human(*turns: str) -> str:
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[n % 2]}: {turn}" for n, turn in enumerate(turns))


class Case(NamedTuple):
    """Rows as they arrive, what they become, and what is said."""

    rows: Any
    right: list[Row]
    collection: Collection = "demonstrations"
    says: str = ""
    least: int | None = None
    file: str = "a.jsonl"
    options: tuple[tuple[str, Any], ...] = ()


def outcome(case: Case, folder: Path) -> Outcome:
    path = folder / case.file
    content = case.rows if isinstance(case.rows, bytes) else jsonl(case.rows)
    path.write_bytes(content)
    return bring(path, case.collection, **dict(case.options))


def votes(column: str, *values: Any) -> list[Row]:
    """Two answers to one question, with a vote."""
    return [
        {"instruction": BREAD, "output_1": YEAST, "output_2": f"Heat {n}.", column: value}
        for n, value in enumerate(values)
    ]


def arena(*winners: str) -> list[Row]:
    return [
        {
            "question_id": n,
            "model_a": "a",
            "model_b": "b",
            "winner": winner,
            "turn": 1,
            "judge": "expert_3",
            "conversation_a": asked(BREAD, YEAST),
            "conversation_b": asked(BREAD, f"Heat {n}."),
        }
        for n, winner in enumerate(winners)
    ]


def better(chosen: str, rejected: str, prompt: Any = BREAD, **more: Any) -> Row:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | more


def webgpt(one: float, other: float) -> Row:
    return {
        "question": {"dataset": "own", "id": "7", "full_text": BREAD},
        "answer_0": YEAST,
        "tokens_0": {"prefix": [], "completion": []},
        "score_0": one,
        "answer_1": "Heat.",
        "score_1": other,
    }


def shp(labels: int, one: int, other: int) -> Row:
    return {
        "post_id": "x1",
        "domain": "askculinary_train",
        "history": BREAD,
        "human_ref_A": YEAST,
        "human_ref_B": "Heat.",
        "labels": labels,
        "score_A": one,
        "score_B": other,
        "score_ratio": 2.0,
        "upvote_ratio": 0.9,
    }


def reply(text: str, rank: int | None, *replies: Row, role: str = "assistant") -> Row:
    return {
        "message_id": text,
        "text": text,
        "role": role,
        "rank": rank,
        "lang": "en",
        "replies": list(replies),
    }


TREE = {
    "message_tree_id": "1",
    "tree_state": "ready_for_export",
    "prompt": {
        "message_id": "1",
        "text": BREAD,
        "role": "prompter",
        "lang": "en",
        "replies": [
            reply("Heat.", 1),
            reply(
                YEAST,
                0,
                reply(
                    "And sugar?",
                    None,
                    reply("Food for it.", 0),
                    reply("Sweet.", 1),
                    role="prompter",
                ),
            ),
            reply("Magic.", 2),
        ],
    },
}
NECTAR = {
    "prompt": human(BREAD) + "\n\nAssistant: ",
    "answers": [
        {"answer": "Heat.", "model": "m2", "rank": 2.0},
        {"answer": YEAST, "model": "m1", "rank": 1.0},
        {"answer": "Magic.", "model": "m3", "rank": 3.0},
    ],
    "turns": 1,
    "num_responses": 3,
    "source": ["own"],
    "good_natured": True,
}
RATED = {
    "source": "own",
    "instruction": BREAD,
    "models": ["x", "y", "z"],
    "completions": [
        {"model": "x", "response": "Heat.", "overall_score": 4.0, "annotations": {}},
        {"model": "y", "response": YEAST, "overall_score": 9.0, "annotations": {}},
        {"model": "z", "response": "Magic.", "overall_score": 4.0, "annotations": {}},
    ],
}
TOOLS = [
    {"role": "user", "content": "Is it cold in Bergen?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "degrees", "arguments": "{}"}}],
    },
    {"role": "tool", "content": "2", "tool_call_id": "7"},
    {"role": "assistant", "content": "Yes, 2 degrees."},
]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": LAMP}]},
    {"role": "assistant", "content": [{"type": "text", "text": DRY}]},
]
TRANSCRIPT = asked("Where is the park?", "Which town?", "Bath.")

CASES = {
    "thumbs of TRL": Case(
        [ANSWERED | {"label": True}, {"prompt": LAMP, "completion": "Go away.", "label": False}],
        [ANSWERED],
        says="label|thumb|kto|unpaired",
    ),
    "thumbs on messages": Case(
        [
            {"messages": asked(LAMP, DRY), "label": True},
            {"messages": asked(LAMP, "Go away."), "label": False},
        ],
        [ANSWERED],
        says="label|thumb|kto|unpaired",
    ),
    "thumbs as preferences": Case(
        [
            ANSWERED | {"label": True},
            {"prompt": LAMP, "completion": "Lamps shine.", "label": False},
        ],
        [CHOSEN],
        "preferences",
        says="label|thumb|kto|unpaired|pair",
    ),
    "Alpaca": Case(
        [
            {"instruction": "Put it in the plural.", "input": "one goose", "output": "two geese"},
            {"instruction": BREAD, "input": "", "output": YEAST},
        ],
        [
            {"prompt": "Put it in the plural.\n\none goose", "completion": "two geese"},
            {"prompt": BREAD, "completion": YEAST},
        ],
        least=2,
    ),
    "Alpaca with its columns renamed": Case(
        [
            {"prompt": "Put it in the plural.", "input": "one goose", "completion": "two geese"},
            {"prompt": "Put it in the plural.", "input": "one ox", "completion": "two oxen"},
        ],
        [
            {"prompt": "Put it in the plural.\n\none goose", "completion": "two geese"},
            {"prompt": "Put it in the plural.\n\none ox", "completion": "two oxen"},
        ],
    ),
    "Alpaca with pairs": Case(
        [
            {
                "instruction": "Put it in the plural.",
                "input": "one goose",
                "output": "two geese",
                "chosen": "two geese",
                "rejected": "two gooses",
            }
        ],
        [better("two geese", "two gooses", "Put it in the plural.\n\none goose")],
        "preferences",
        least=1,
    ),
    "pairs with a vote of their own": Case(
        [
            CHOSEN | {"preference": "tie"},
            better("Heat.", YEAST) | {"preferred": "rejected"},
            better("Cod.", "Gnu.", "Name a fish.") | {"preference": "chosen"},
        ],
        [better("Cod.", "Gnu.", "Name a fish.")],
        "preferences",
        "tie",
    ),
    "pairs with scores": Case(
        parquet(
            [
                {
                    "prompt": f"{n}?",
                    "prompt_id": str(n),
                    "chosen": asked(f"{n}?", "Yes."),
                    "rejected": asked(f"{n}?", "No."),
                    "messages": asked(f"{n}?", "Yes."),
                    "score_chosen": one,
                    "score_rejected": other,
                }
                for n, (one, other) in enumerate(
                    [(8.5, 3.0), (7.0, 7.0), (9.0, 1.5), (2.0, 6.5), (3.0, 2.0)]
                )
            ]
        ),
        [better("Yes.", "No.", f"{n}?") for n in (0, 2, 4)],
        "preferences",
        "tie.*(revers|lower)|(revers|lower).*tie",
        1,
        file="a.parquet",
    ),
    "a transcript as the prompt of pairs": Case(
        [
            {
                "prompt": human("Where is the park?", "Which town?", "Bath.") + "\n\nAssistant:",
                "response": " Behind it.",
                "chosen": " Behind it.",
                "rejected": " Who knows.",
            }
        ],
        [
            better(" Behind it.", " Who knows.", TRANSCRIPT),
            better("Behind it.", "Who knows.", TRANSCRIPT),
        ],
        "preferences",
        least=1,
    ),
    "a transcript as a prompt": Case(
        [NECTAR, {"prompt": human("Where is the park?", "Which town?", "Bath.")}],
        [{"prompt": BREAD}, {"prompt": TRANSCRIPT}],
        "prompts",
        least=2,
    ),
    "whole transcripts": Case(
        [{"chosen": human(LAMP, DRY), "rejected": human(LAMP, "Lamps shine.")}],
        [CHOSEN],
        "preferences",
        least=1,
    ),
    "neighbours of one role joined": Case(
        [
            {
                "chosen": human(LAMP, "Well.") + "\n\nAssistant: Which?" + human("That.", DRY),
                "rejected": human(LAMP, "Well.") + "\n\nAssistant: Which?" + human("That.", "No."),
            }
        ],
        [
            better(DRY, "No.", asked(LAMP, f"Well.{space}Which?", "That."))
            for space in ("\n\n", "\n")
        ],
        "preferences",
        least=1,
        options=(("join_turns", True),),
    ),
    "the system text folded": Case(
        [{"messages": asked(LAMP, DRY, system=True)}],
        [
            {"prompt": f"{SYSTEM['content']}{space}{LAMP}", "completion": DRY}
            for space in ("\n\n", "\n")
        ],
        least=1,
        options=(("fold_system", True),),
    ),
    "ShareGPT": Case([{"conversations": SHARE, "id": "x_0"}], [ANSWERED], least=1),
    "ShareGPT renamed": Case([{"messages": SHARE}], [ANSWERED], says="", least=1),
    "ShareGPT with a system column": Case(
        [{"system": SYSTEM["content"], "conversations": SHARE}],
        [{"prompt": asked(LAMP, system=True), "completion": DRY}],
        says="",
        least=1,
    ),
    "ShareGPT pairs of strings": Case(
        [{"conversations": SHARE[:1], "chosen": DRY, "rejected": "Lamps shine."}],
        [CHOSEN],
        "preferences",
        least=1,
    ),
    "ShareGPT pairs of objects": Case(
        json.dumps(
            [
                {
                    "conversations": SHARE[:1],
                    "chosen": SHARE[1],
                    "rejected": {"from": "gpt", "value": "Lamps shine."},
                }
            ],
            indent=1,
        ).encode(),
        [CHOSEN],
        "preferences",
        least=1,
        file="a.json",
    ),
    "roles human and gpt": Case(
        [{"messages": [{"role": "human", "content": LAMP}, {"role": "gpt", "content": DRY}]}],
        [ANSWERED],
        says="",
        least=1,
    ),
    "lists of parts": Case([{"messages": PARTS}], [ANSWERED], least=1),
    "calls of tools": Case(
        [{"messages": TOOLS}, {"messages": asked(LAMP, DRY)}], [ANSWERED], says="tool", least=1
    ),
    "the role developer": Case(
        [{"messages": [SYSTEM | {"role": "developer"}, *asked(LAMP, DRY)]}],
        [{"prompt": asked(LAMP, system=True), "completion": DRY}],
        least=1,
    ),
    "question, system and answers": Case(
        [
            {
                "system": SYSTEM["content"],
                "question": LAMP,
                "chosen": DRY,
                "rejected": "Lamps shine.",
            }
        ],
        [better(DRY, "Lamps shine.", asked(LAMP, system=True))],
        "preferences",
        least=1,
    ),
    "WebGPT": Case(
        [webgpt(0.0, 0.0), webgpt(-0.5, 0.5), webgpt(1.0, -1.0)],
        [better("Heat.", YEAST), better(YEAST, "Heat.")],
        "preferences",
        "tie",
        2,
    ),
    "MT-bench": Case(
        arena("model_a", "model_b", "tie"),
        [better(YEAST, "Heat 0."), better("Heat 1.", YEAST)],
        "preferences",
        "tie",
        2,
    ),
    "AlpacaEval": Case(
        votes("preference", 1, 2, 0, 1.5),
        [better(YEAST, "Heat 0."), better("Heat 1.", YEAST)],
        "preferences",
        "tie",
        2,
    ),
    "AlpacaEval between 1 and 2": Case(
        votes("preference", 1.1, 1.9, 1.62),
        [better(YEAST, "Heat 0."), better("Heat 1.", YEAST), better("Heat 2.", YEAST)],
        "preferences",
        least=3,
    ),
    "SHP": Case(
        [shp(0, 3, 11), shp(1, 11, 3)],
        [better("Heat.", YEAST), better(YEAST, "Heat.")],
        "preferences",
        least=2,
    ),
    "Nectar": Case(
        [NECTAR],
        [better(YEAST, "Heat."), better(YEAST, "Magic."), better("Heat.", "Magic.")],
        "preferences",
        least=3,
    ),
    "UltraFeedback": Case(
        [RATED], [better(YEAST, "Heat."), better(YEAST, "Magic.")], "preferences", "tie", 2
    ),
    "trees of Open Assistant": Case(
        [TREE],
        [
            better(YEAST, "Heat."),
            better(YEAST, "Magic."),
            better("Heat.", "Magic."),
            better("Food for it.", "Sweet.", asked(BREAD, YEAST, "And sugar?")),
        ],
        "preferences",
        least=3,
    ),
    "thumbs as demonstrations of a ranking": Case(
        [NECTAR], [{"prompt": BREAD, "completion": YEAST}], says="answers|rank|preferences"
    ),
    "graded margins in words": Case(
        [
            CHOSEN | {"margin": "significantly better"},
            better(YEAST, "Heat.") | {"margin": "slightly better"},
        ],
        [CHOSEN, better(YEAST, "Heat.")],
        "preferences",
        least=2,
    ),
    "answers that begin with their prompt": Case(
        [
            better(f"{LAMP} {DRY}", f"{LAMP} Lamps shine.", LAMP),
            better(f"{BREAD} {YEAST}", f"{BREAD} Heat."),
        ],
        [CHOSEN, better(YEAST, "Heat.")],
        "preferences",
        least=2,
    ),
    "implicit prompts": Case(
        [{"chosen": f"{LAMP}\n{DRY}", "rejected": f"{LAMP}\nLamps shine."}],
        [CHOSEN],
        "preferences",
        says="",
        least=None,
    ),
    "rows below a key": Case(
        json.dumps({"version": "2", "data": [ANSWERED]}, indent=1).encode(),
        [ANSWERED],
        file="a.json",
        says="",
        least=1,
    ),
    "one object over several lines": Case(
        json.dumps(ANSWERED, indent=2).encode(), [ANSWERED], file="a.json", says="", least=1
    ),
    "columns of pandas": Case(
        json.dumps({name: {"0": value} for name, value in ANSWERED.items()}).encode(),
        [ANSWERED],
        file="a.json",
        says="",
        least=1,
    ),
    "the orientation split of pandas": Case(
        json.dumps(
            {"columns": list(ANSWERED), "index": [0], "data": [list(ANSWERED.values())]}
        ).encode(),
        [ANSWERED],
        file="a.json",
        least=1,
    ),
    "the orientation index of pandas": Case(
        json.dumps({"0": ANSWERED, "1": {"prompt": BREAD, "completion": YEAST}}).encode(),
        [ANSWERED, {"prompt": BREAD, "completion": YEAST}],
        file="a.json",
        least=2,
    ),
    "semicolons": Case(
        f"prompt;completion\n{LAMP};{DRY}\n".encode(), [ANSWERED], file="a.csv", least=1
    ),
    "tabs": Case(
        f"prompt\tcompletion\n{LAMP}\t{DRY}\n".encode(), [ANSWERED], file="a.tsv", least=1
    ),
    "a line for Excel": Case(
        f"sep=,\r\nprompt,completion\r\n{LAMP},{DRY}\r\n".encode(),
        [ANSWERED],
        file="a.csv",
        least=1,
    ),
    "columns in capitals": Case(
        f"Prompt,Completion\n{LAMP},{DRY}\n".encode(), [ANSWERED], file="a.csv", says="", least=1
    ),
}


def faults(case: Case, found: Outcome) -> Iterator[str]:
    """Everything about an outcome that its owner would not call right."""
    right = [bare(row) for row in case.right]
    if wrong := [row for row in found.kept if bare(row) not in right]:
        yield f"wrong: {wrong[0]}"
    if len(found.kept) < (case.least or 0):
        yield f"kept {len(found.kept)} of {case.least}"
    if found.made != len(found.kept) + sum(found.dropped.values()):
        yield "rows are neither kept nor counted as dropped"
    if not re.search(case.says, found.said, re.IGNORECASE):
        yield f"nothing says {case.says}"
    if "rename the columns" in found.said:
        yield "advises to rename"


def bare(row: Row) -> Row:
    """The texts of a row without spaces at the ends."""
    names = {"prompt", "completion", "chosen", "rejected", "text"} & set(row)
    return {name: row[name].strip() if isinstance(row[name], str) else row[name] for name in names}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_shape_of_the_field_is_read_right(case: Case, tmp_path: Path) -> None:
    found = outcome(case, tmp_path)
    if wrong := [*faults(case, found)]:
        pytest.fail(f"{'; '.join(wrong)}; it says: {found.said[:1000]}", pytrace=False)


@pytest.mark.parametrize(
    "words",
    [
        ("negligibly better", 0.0),
        ("unsure", 0.0),
        ("slightly better", 1 / 3),
        ("better", 2 / 3),
        ("significantly better", 1.0),
        (0.25, 0.25),
        ("0.25", 0.25),
    ],
)
def test_a_graded_margin_is_a_number(words: tuple[Any, float], tmp_path: Path) -> None:
    (row,) = outcome(Case([CHOSEN | {"margin": words[0]}], [], "preferences"), tmp_path).kept
    assert row["margin"] == pytest.approx(words[1], abs=1e-3)


def test_ties_are_kept_at_half_weight_when_asked(tmp_path: Path) -> None:
    case = Case(votes("preference", 0, 1), [], "preferences", options=(("ties", "half"),))
    kept = outcome(case, tmp_path).kept
    assert sorted(row.get("tie", False) for row in kept) == [False, True]


SHORT = {
    "gb18030": ("写得很好", "请坐，慢慢说"),
    "gbk": ("不错", "明天见"),
    "shift_jis": ("いただきます", "おやすみ"),
    "cp1251": ("Спокойной ночи", "До встречи"),
    "koi8_r": ("Спокойной ночи", "До встречи"),
    "cp1250": ("Zażółć gęślą jaźń", "Dzień dobry"),
    "euc_kr": ("안녕히 주무세요", "또 만나요"),
}


@pytest.mark.parametrize("encoding", SHORT)
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_few_foreign_words_are_right_or_refused(encoding: str, rows: int, tmp_path: Path) -> None:
    right = [
        {"prompt": f"Translate it politely, number {n}, dear friend.", "completion": word}
        for n, word in enumerate([*SHORT[encoding], "Verbs say what is done.", "Of course."][:rows])
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(right, encoding))
    found = bring(path, "demonstrations")
    assert found.refused or found.kept == right, found
    assert "encoding" in found.said or "decoded as" in found.said
    assert bring(path, "demonstrations", encoding=encoding).kept == right


PLAY = "".join(
    f"{who}:\n{line}\n\n"
    for who, line in [
        ("CARLA", "Is it late?"),
        ("DIDO", "Not very."),
        ("CARLA", "Shall we go?"),
        ("DIDO", "Not very."),
        ("CARLA", "Then stay."),
        ("DIDO", "Not very."),
    ]
)


def test_a_play_is_asked_about_and_never_cut_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "play.txt"
    path.write_text(PLAY, "utf-8")
    found = bring(path, "corpus")
    assert "data.text" in found.said or "documents" in found.said
    if found.kept:
        assert "".join(row["text"] for row in found.kept).strip() == PLAY.strip()
    whole = bring(path, "corpus", text="documents")
    assert [row["text"].strip() for row in whole.kept] == [PLAY.strip()]
    lines = bring(path, "corpus", text="lines")
    assert len(lines.kept) == 12


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        (
            "a.jsonl",
            jsonl([{"question_id": 3, "category": "x", "turns": [LAMP, "Shorter."]}]),
            [LAMP],
        ),
        (
            "a.json",
            json.dumps(
                [{"instruction": LAMP, "output": DRY, "generator": "g", "dataset": "d"}]
            ).encode(),
            [LAMP],
        ),
        ("a.csv", f"prompt;id\n{LAMP};1\n".encode(), [LAMP]),
        ("a.jsonl", jsonl([{"messages": asked(LAMP, DRY)}]), [LAMP]),
    ],
)
def test_questions_of_benchmarks_are_prompts(
    name: str, content: bytes, prompts: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    found = [one.prompt for one in read_prompt_file(tmp_path / name).prompts]
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in found]
    assert texts == prompts


# The local data folder: every file recognised, counted right, its traps reported.
FILES: dict[str, tuple[Collection, int, int, str]] = {
    "reviews_en/pretrain.jsonl.gz": ("corpus", 10_462, 10_462, ""),
    "reviews_en/sft.jsonl.gz": ("demonstrations", 9_180, 9_180, ""),
    "reviews_en/pairs_train.jsonl.gz": ("preferences", 6_555, 6_555, ""),
    "reviews_en/pairs_test.jsonl": ("preferences", 549, 549, ""),
    "reviews_en/prompts_train.jsonl": ("prompts", 5_973, 5_973, ""),
    "reviews_en/prompts_test.jsonl": ("prompts", 936, 936, "seen_in_train"),
    "reviews_zh/pretrain.jsonl.gz": ("corpus", 41_904, 41_904, ""),
    "reviews_zh/sft.jsonl.gz": ("demonstrations", 15_000, 15_000, ""),
    "reviews_zh/pairs_train.jsonl.gz": ("preferences", 5_946, 5_944, "equal"),
    "reviews_zh/pairs_test.jsonl": ("preferences", 221, 221, ""),
    "reviews_zh/prompts_test.jsonl": ("prompts", 1_147, 1_147, ""),
    "formats/llamafactory/alpaca_en_demo.json": ("demonstrations", 999, 999, ""),
    "formats/llamafactory/alpaca_zh_demo.json": ("demonstrations", 1_000, 1_000, ""),
    "formats/llamafactory/dpo_en_demo.json": ("preferences", 300, 300, ""),
    "formats/llamafactory/c4_demo.jsonl": ("corpus", 300, 300, ""),
    "formats/llamafactory/wiki_demo.txt": ("corpus", 30, 30, "line"),
    "formats/raschka/instruction-data-with-preference.json": (
        "preferences",
        1_100,
        1_094,
        "equal to rejected",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_data_folder_is_counted_right(name: str, shared_data: Path) -> None:
    collection, read, kept, says = FILES[name]
    found = bring(shared_data / name, collection)
    assert (found.read, len(found.kept)) == (read, kept), found.said[:1000]
    assert says in found.said
    assert read == kept + sum(found.dropped.values())


def test_the_inputs_of_alpaca_files_are_in_the_prompts(shared_data: Path) -> None:
    path = shared_data / "formats/llamafactory/alpaca_en_demo.json"
    rows = json.loads(path.read_text("utf-8"))
    kept = bring(path, "demonstrations").kept
    assert sum(bool(row["input"]) for row in rows) == 412
    for row, made in zip(rows, kept, strict=True):
        assert row["input"].strip() in made["prompt"]
        assert row["instruction"].strip() in made["prompt"]


def test_the_longest_prompt_of_the_data_folder_is_dropped_where_a_bound_is_set(
    shared_data: Path,
) -> None:
    path = shared_data / "formats/llamafactory/dpo_en_demo.json"
    found = bring(path, "preferences", max_prompt_characters=13_282)
    assert found.dropped == {"prompt longer than 13282 characters": 1}
    roles = Counter(
        turn["role"]
        for row in found.kept
        if isinstance(row["prompt"], list)
        for turn in row["prompt"]
    )
    assert set(roles) == {"system", "user", "assistant"}


def test_running_text_of_the_data_folder_is_not_cut_into_lines(shared_data: Path) -> None:
    path = shared_data / "corpora/tinyshakespeare.txt"
    found = bring(path, "corpus")
    assert "data.text" in found.said or "documents" in found.said
    whole = "".join(row["text"] for row in bring(path, "corpus", text="documents").kept)
    assert whole.strip() == path.read_text("utf-8").strip()


def test_the_speeches_of_the_data_folder_are_a_text_each(shared_data: Path) -> None:
    path = shared_data / "corpora/sotu_txt.tar.gz"
    with tarfile.open(path) as file:
        names = [member.name for member in file if member.isfile()]
    found = bring(path, "corpus", text="documents")
    assert found.read == len(found.kept) == len(names), found.said[:1000]


@pytest.mark.parametrize("side", ["train.en", "train.fr", "val.en", "test_2016_flickr.fr"])
def test_a_translation_of_the_data_folder_is_refused_or_said_to_be_lines(
    side: str, shared_data: Path
) -> None:
    lines = 29_000 if "train" in side else 1_014 if "val" in side else 1_000
    found = bring(shared_data / f"translation_en_fr/{side}.gz", "corpus")
    assert f"{side}.gz" in found.said
    assert "line" in found.said
    assert found.refused or len(found.kept) == lines


@pytest.mark.parametrize("part", ["train", "trial", "test_annotated"])
def test_a_table_named_txt_of_the_data_folder_is_told_or_kept_as_lines(
    part: str, shared_data: Path
) -> None:
    path = shared_data / f"entailment_sick/SICK_{part}.txt.gz"
    for collection in ("corpus", "preferences"):
        found = bring(path, collection)
        assert re.search("tab|column|data.text", found.said), found.said[:500]
    with pytest.raises(QuartetError, match=re.escape(path.name)) as caught:
        read_prompt_file(path)
    one_line(caught.value)
