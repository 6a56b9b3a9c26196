"""Every format of preferences: pairs, two outputs, rankings, trees; ties and contradictions."""

from collections import Counter
from typing import Any

import pytest

from tasks.data.config import DataConfig
from tasks.data.formats import (
    Collection,
    LeftOut,
    RowProblem,
    convert_row,
    gather,
    recognise,
    unread_columns,
)

Row = dict[str, Any]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


Q, G, B = "Why do cats purr?", "They are content.", "Motors."
TEXT = {"prompt": Q, "chosen": G, "rejected": B}
CHAT = {"prompt": [user(Q)], "chosen": [assistant(G)], "rejected": [assistant(B)]}
HH = f"\n\nHuman: {Q}\n\nAssistant:"
SYSTEM = {"role": "system", "content": "Be kind."}
WITH_SYSTEM = CHAT | {"prompt": [SYSTEM, user(Q)]}

# (name of the format, row as read, its pair)
CASES: list[tuple[str, Row, Row]] = [
    ("pair", {"question": Q, "Chosen": G, "REJECTED": B, "id": 7}, TEXT),
    ("pair", {"instruction": "Why?", "input": "cats", "output": "x", "chosen": G, "rejected": B},
     TEXT | {"prompt": "Why?\n\ncats"}),
    ("pair", {"system": "Be kind.", "question": Q, "chosen": G, "rejected": B}, WITH_SYSTEM),
    ("pair", {"conversations": [{"from": "human", "value": Q}],
              "chosen": {"from": "gpt", "value": G}, "rejected": {"from": "gpt", "value": B}},
     CHAT),
    ("pair", {"conversations": [{"from": "human", "value": Q}], "chosen": G, "rejected": B}, CHAT),
    ("pair", {"prompt": HH, "chosen": f" {G}", "rejected": f" {B}"}, CHAT),
    ("pair", {"prompt": HH, "chosen": f"{HH} {G}", "rejected": f"{HH} {B}"}, CHAT),
    ("pair", {"chosen": f"{HH} {G}", "rejected": f"{HH} {B}"}, CHAT),
    ("pair", {"system": "Be kind.", "chosen": f"{HH} {G}", "rejected": f"{HH} {B}"}, WITH_SYSTEM),
    ("pair", {"system": "Be kind.", "prompt": Q, "chosen": [user(Q), assistant(G)],
              "rejected": [user(Q), assistant(B)]}, WITH_SYSTEM),
    ("pair", {"prompt": "Tell me: why do cats purr?", "rejected": "Tell me: why do cats purr? No",
              "chosen": "Tell me: why do cats purr? Yes"},
     {"prompt": "Tell me: why do cats purr?", "chosen": " Yes", "rejected": " No"}),
    ("pair", {**TEXT, "margin": "significantly better"}, TEXT | {"margin": 1.0}),
    ("pair", {**TEXT, "strength": "Slightly better"}, TEXT | {"margin": 1 / 3}),
    ("pair", {**TEXT, "preference_strength": "negligibly better / unsure"},
     TEXT | {"margin": 0.0}),
    ("pair", {**TEXT, "score_chosen": 5, "score_rejected": "3.5", "preferred": "chosen"}, TEXT),
    ("pair", {"prompt": {"role": "user", "content": Q}, "chosen": {"content": G, "model": "m"},
              "rejected": B}, CHAT),
    ("two-outputs", {"instruction": Q, "output_1": G, "output_2": B, "preference": 1.0}, TEXT),
    ("two-outputs", {"instruction": Q, "output_1": B, "output_2": G, "preference": 1.62}, TEXT),
    ("two-outputs", {"question": {"full_text": Q}, "answer_0": B, "answer_1": G,
                     "score_0": -0.5, "score_1": 0.5}, TEXT),
    ("two-outputs", {"history": Q, "human_ref_A": B, "human_ref_B": G, "labels": 0,
                     "score_A": 3, "score_B": 11}, TEXT),
    ("two-outputs", {"history": Q, "human_ref_A": G, "human_ref_B": B, "labels": 1}, TEXT),
    ("two-outputs", {"model_a": "x", "model_b": "y", "winner": "model_b", "turn": 1,
                     "conversation_a": [user(Q), assistant(B), user("More."), assistant("b")],
                     "conversation_b": [user(Q), assistant(G), user("More."), assistant("c")]},
     CHAT),
    ("two-outputs", {"model_a": "x", "model_b": "y", "winner": "y", "prompt": Q,
                     "response_a": B, "response_b": G}, TEXT),
    ("two-outputs", {"prompt": f'["{Q}"]', "response_a": f'["{G}"]', "response_b": f'["{B}"]',
                     "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}, CHAT),
    ("two-outputs", {"prompt": Q, "response_1": B, "response_2": G, "preference_strength": 2},
     TEXT | {"margin": 2 / 3}),
    ("two-outputs", {"context": [user(Q)], "response1": G, "response2": B,
                     "overall_preference": -3}, CHAT | {"margin": 1.0}),
    ("two-outputs", {"prompt": Q, "response_0": B, "response_1": G, "better_response_id": 1}, TEXT),
    ("two-outputs", {"prompt": Q, "response_a": B, "response_b": G, "chosen": "response_b"}, TEXT),
    ("two-outputs", {"prompt": Q, "response_left": B, "response_right": G, "best": "Right"}, TEXT),
    ("two-outputs", {"prompt": Q, "first_answer": B, "second_answer": G, "best": "second"}, TEXT),
    ("two-outputs", {"prompt": Q, "Model A response": G, "Model B response": B, "winner": "A"},
     TEXT),
    ("two-outputs", {"prompt": Q, "answer1": G, "answer2": B, "ranker": "left"}, TEXT),
    ("two-outputs", {"prompt": Q, "answer_a": B, "answer_b": G, "verdict": "[[B>>A]]"}, TEXT),
    ("two-outputs", {"prompt": Q, "output_1": B, "output_2": G, "winner": "2.0"}, TEXT),
    ("summaries", {"info": {"title": "Cats", "post": Q}, "choice": 1,
                   "summaries": [{"text": B, "policy": "p"}, {"text": G, "policy": "r"}]},
     TEXT | {"prompt": f"Cats\n\n{Q}"}),
    ("ranking", {"prompt": HH, "answers": [{"answer": B, "rank": 2.0}, {"answer": G, "rank": 1.0}]},
     CHAT),
    ("ranking", {"instruction": Q, "completions": [
        {"response": B, "overall_score": 9, "annotations": {"honesty": {"Rating": "2"},
                                                            "truth": {"Rating": "N/A"}}},
        {"response": G, "overall_score": 1, "annotations": {"honesty": {"Rating": "4"},
                                                            "truth": {"Rating": "3"}}}]}, TEXT),
    ("ranking", {"question": Q, "answers": {"text": [B, G], "score": [1, 8]}}, TEXT),
    ("lists", {"prompt": Q, "responses": [B, G], "ranks": [2, 1]}, TEXT),
    ("lists", {"prompt": Q, "completions": [B, G], "scores": [0.1, 0.7]}, TEXT),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "pair"), CASES)
def test_preference_is_recognised_and_read(name: str, row: Row, pair: Row) -> None:
    found = recognise(row)
    assert found is not None
    assert (found.name, found.home) == (name, "preferences")
    assert convert_row("preferences", row) == [pair]
    assert convert_row("prompts", row) == [{"prompt": pair["prompt"]}]
    if name != "pair":
        with pytest.raises(RowProblem, match="name it as preferences only"):
            convert_row("demonstrations", row)


TIES: list[Row] = [
    {**TEXT, "preference": "tie"},
    {**TEXT, "score_chosen": 7.0, "score_rejected": 7},
    {**TEXT, "tie": True},
    {**TEXT, "status": "tie"},
    {"prompt": Q, "output_1": G, "output_2": B, "preference": 0.0},
    {"prompt": Q, "output_1": G, "output_2": B, "preference": 1.5},
    {"prompt": Q, "answer_0": G, "answer_1": B, "score_0": 0, "score_1": 0},
    {"prompt": Q, "response_a": G, "response_b": B, "winner": "tie (bothbad)"},
    {"prompt": Q, "response_1": G, "response_2": B, "preference_strength": 0},
    {"prompt": Q, "responses": [G, B], "ranks": [1, 1]},
]


@pytest.mark.parametrize("row", TIES)
def test_a_tie_is_left_out_or_marked(row: Row) -> None:
    with pytest.raises(LeftOut, match=r"^tie"):
        convert_row("preferences", row)
    (tied,) = convert_row("preferences", row, DataConfig(ties="half"))
    assert (tied["tie"], {tied["chosen"], tied["rejected"]}) == (True, {G, B})
    assert convert_row("prompts", row) == [{"prompt": Q}]


@pytest.mark.parametrize("status", ["good", "yes", "1", 1, True, "unchanged", None])
def test_a_status_other_than_tie_is_no_verdict(status: Any) -> None:
    assert convert_row("preferences", {**TEXT, "status": status}) == [TEXT]


def outputs(**columns: Any) -> Row:
    return {"prompt": Q, "response_a": G, "response_b": B, **columns}


PROBLEMS: list[tuple[Row, type[RowProblem], str]] = [
    ({**TEXT, "preferred": "rejected"}, LeftOut, "contradiction: the verdict says that rejected"),
    ({**TEXT, "score_chosen": 3, "score_rejected": 8}, LeftOut, "contradiction: chosen has"),
    ({**TEXT, "preferred": "chosen", "score_chosen": 3, "score_rejected": 3}, LeftOut,
     "contradiction: verdict and scores disagree"),
    ({**TEXT, "tie": "true", "chosen_score": 3, "rejected_score": 1}, LeftOut,
     "contradiction: verdict and scores disagree"),
    ({**TEXT, "winner": "first"}, RowProblem, "column winner names neither"),
    ({**TEXT, "score_chosen": "high", "score_rejected": 1}, RowProblem, "score is not a number"),
    (outputs(winner="model_a", score_a=1, score_b=2), LeftOut, "contradiction: verdict and scores"),
    (outputs(winner="zebra"), RowProblem, "column winner names neither"),
    (outputs(winner=1), RowProblem, "column winner names neither"),
    (outputs(winner=True), RowProblem, "column winner names neither"),
    (outputs(winner=None), LeftOut, "nobody said which of the two outputs is better"),
    (outputs(winner_model_a=1, winner_model_b=1), RowProblem, "column winner names neither"),
    ({"prompt": Q, "output_1": G, "output_2": B, "preference": 7}, RowProblem,
     "column preference names neither"),
    ({"prompt": "Why do dogs bark?", "chosen": [user(Q), assistant(G)],
      "rejected": [user(Q), assistant(B)]}, RowProblem, "the prompt does not stand"),
    ({"chosen": G, "rejected": B}, RowProblem, "there is no prompt column"),
    ({"prompt": None, "answers": [{"answer": G, "rank": 1}]}, LeftOut, "fewer than two"),
    ({"prompt": Q, "answers": [{"answer": G}, {"answer": B}]}, LeftOut, "fewer than two"),
    ({"prompt": Q, "answers": [G, B]}, RowProblem, "completions have neither ranks nor scores"),
    ({"prompt": Q, "answers": [G, B], "ranks": [1]}, RowProblem, "completions and their ranks"),
    ({"prompt": Q, "answers": [{"rank": 1}]}, RowProblem, "a completion of the ranking has"),
    ({"info": {"post": Q}, "summaries": [{"text": G}], "choice": 2}, RowProblem, "choice is not"),
    ({"prompt": Q, "completion": G}, RowProblem,
     "recognised as a prompt and its completion, which gives no preferences; wanted two"),
    ({"model_a": "x", "winner": "model_a", "turn": 9, "conversation_a": [user(Q), assistant(G)],
      "conversation_b": [user(Q), assistant(B)]}, RowProblem, "turn is not the number"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "kind", "reason"), PROBLEMS)
def test_preference_is_refused_with_its_reason(
    row: Row, kind: type[RowProblem], reason: str
) -> None:
    with pytest.raises(RowProblem) as caught:
        convert_row("preferences", row)
    assert str(caught.value).startswith(reason)
    assert type(caught.value) is kind


def test_a_ranking_becomes_all_its_pairs_and_its_ties_are_counted() -> None:
    answers = [{"answer": text, "rank": rank} for text, rank in
               (("b", 2), ("a", 1), ("c", 2), ("d", None))]  # fmt: skip
    row = {"prompt": Q, "answers": answers}
    dropped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    pairs = convert_row("preferences", row, dropped=dropped, notes=notes)
    assert [(one["chosen"], one["rejected"]) for one in pairs] == [("a", "b"), ("a", "c")]
    assert dropped == {"tie: neither is better": 1}
    assert notes == {"completions without rank or score were left out": 1}
    halves = convert_row("preferences", row, DataConfig(ties="half"))
    assert [one.get("tie", False) for one in halves] == [False, True, False]


def node(text: str, role: str, *replies: Row, rank: int | None = None, **more: Any) -> Row:
    return {"text": text, "role": role, "rank": rank, "replies": list(replies), **more}


TREE = node(
    Q, "prompter",
    node(B, "assistant", rank=1),
    node(G, "assistant", node("More?", "prompter", node("No.", "assistant", rank=0)), rank=0),
    node("Spam.", "assistant", rank=2, deleted=True),
)  # fmt: skip


def test_a_tree_gives_the_pairs_and_the_prompts_of_all_its_turns() -> None:
    row = {"message_tree_id": "t", "prompt": TREE}
    assert convert_row("preferences", row) == [CHAT]
    assert convert_row("prompts", row) == [
        {"prompt": [user(Q)]},
        {"prompt": [user(Q), assistant(G), user("More?")]},
    ]
    lonely = {"message_tree_id": "t", "prompt": node(Q, "prompter", node(G, "assistant", rank=0))}
    with pytest.raises(LeftOut, match="a tree without a prompt that has two ranked replies"):
        convert_row("preferences", lonely)


def flat(tree: Row, parent: str | None, number: str) -> list[Row]:
    row = {key: value for key, value in tree.items() if key != "replies"}
    rows = [{"message_id": number, "parent_id": parent, **row}]
    for position, reply in enumerate(tree["replies"]):
        rows += flat(reply, number, f"{number}.{position}")
    return rows


def test_messages_of_trees_are_gathered_whatever_their_order() -> None:
    rows = [*flat(TREE, None, "1"), *flat(TREE, "gone", "2")][::-1]
    assert {found.name for row in rows if (found := recognise(row))} == {"tree-messages"}
    gathered = list(gather(rows))
    orphans = [row for row in gathered if "prompt" not in row]
    # Neither an orphan nor what was written below it gets lost.
    assert sorted(row["message_id"] for row in orphans) == ["2", "2.0", "2.1", "2.1.0", "2.1.0.0",
                                                            "2.2"]  # fmt: skip
    for orphan in orphans:
        with pytest.raises(LeftOut, match="belongs to no tree of the file"):
            convert_row("preferences", orphan)
    pairs = [
        pair for row in gathered if "prompt" in row for pair in convert_row("preferences", row)
    ]
    assert pairs == [CHAT]
    assert list(gather(rows, "corpus")) == rows
    odd: list[Row] = [
        {"message_id": name, "parent_id": parent, "text": "a", "role": "prompter"}
        for name, parent in (("1", "2"), ("2", "1"), ("3", None), ("3", None), ([], "3"))
    ]
    assert len(list(gather(odd))) == len(odd)  # a circle, twice the same, no name


def test_other_rows_pass_one_by_one() -> None:
    asked: list[int] = []

    def rows() -> Any:
        for number in range(3):
            asked.append(number)
            yield {"prompt": Q, "completion": str(number)}

    assert next(gather(rows()))["completion"] == "0"
    assert asked == [0]
    assert list(gather([])) == []


@pytest.mark.parametrize(
    ("collection", "row", "unread"),
    [
        ("preferences", {**TEXT, "id": 1, "source": "x", "score_chosen": 1}, ["id", "source"]),
        (
            "demonstrations",
            {"instruction": "a", "input": "b", "output": "c", "lang": "en"},
            ["lang"],
        ),
        ("prompts", {"prompt": "a", "seen": True}, ["seen"]),
        ("corpus", {"text": "a", "url": "u"}, ["url"]),
        ("corpus", {"colour": "a", "size": None}, ["colour"]),
        (
            "demonstrations",
            {"messages": [user("q"), {**assistant("a"), "thinking": "hm", "name": None}]},
            ["messages[].thinking"],
        ),
        (
            "preferences",
            {"prompt": Q, "answers": [{"answer": G, "rank": 1, "model": "m"}]},
            ["answers[].model"],
        ),
    ],
)
def test_columns_that_nobody_reads_are_named(
    collection: Collection, row: Row, unread: list[str]
) -> None:
    assert unread_columns(collection, row) == unread
