"""Whatever stands in a row: canonical rows come of it, or a reason, never another error."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.config import DataConfig
from tasks.data.conversion import columns as names
from tasks.data.formats import (
    COLLECTIONS,
    FORMAT_NAMES,
    Collection,
    RowProblem,
    convert_row,
    gather,
    unread_columns,
)

COLUMNS = sorted(
    {*names.PROMPT, *names.COMPLETION, *names.MESSAGES, *names.LABEL, *names.LISTS, *names.VERDICT,
     *names.RANKS, *names.SCORES, *names.MARGIN, "chosen", "rejected", "system", "history", "text",
     "output_1", "output_2", "response_a", "response_b", "score_a", "score_b", "conversation_a",
     "conversation_b", "turn", "turns", "tie", "score_chosen", "score_rejected", "info",
     "summaries", "message_tree_id", "message_id", "parent_id", "role", "overall_preference",
     "winner_model_a", "winner_tie", "deleted", "rank"}
)  # fmt: skip
TEXTS = st.sampled_from(
    ["", " ", "a", "tie", "1", "nan", "model_a", "[", "{}", "[1]", '[{"role": "user"}]', "\ud800",
     "\n\nHuman: a\n\nAssistant:", "\n\nHuman:", "### Human: a ### Assistant: b", "A>B", "9" * 999,
     "<|im_start|>user\na", "{'a': 1", "[" * 3000 + "]" * 3000, "1e999", "-1", "b" * 30]
)  # fmt: skip
KEYS = st.sampled_from(
    ["role", "content", "from", "value", "text", "rank", "score", "answer", "replies", "parts",
     "annotations", "Rating", "human", "assistant", "tool_calls", "post", "title", "type"]
)  # fmt: skip
ROLES = st.sampled_from(["user", "assistant", "system", "gpt", "human", "tool", "x"])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": TEXTS}), max_size=4)
VALUES = st.recursive(
    st.one_of(TEXTS, ROLES, st.none(), st.booleans(), st.integers(-2, 9), st.floats(), MESSAGES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
NEEDED = st.sampled_from(
    ["prompt completion", "prompt input completion history system", "prompt chosen rejected",
     "chosen rejected system", "prompt chosen rejected margin winner score_chosen score_rejected",
     "messages label", "messages system", "prompt answers", "prompt completions ranks", "text",
     "prompt completions scores", "info summaries choice", "message_tree_id prompt", "turns",
     "message_id parent_id text role deleted", "prompt output_1 output_2 preference",
     "prompt response_a response_b winner_model_a", "conversation_a conversation_b winner turn",
     "prompt response_a response_b score_a score_b overall_preference margin"]
).map(str.split)  # fmt: skip
ROWS = st.builds(
    lambda needed, more: needed | more,
    NEEDED.flatmap(lambda columns: st.fixed_dictionaries(dict.fromkeys(columns, VALUES))),
    st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=2),
)
CONFIGS = st.builds(
    DataConfig,
    ties=st.sampled_from(["drop", "half"]),
    fold_system=st.booleans(),
    join_turns=st.booleans(),
    format=st.sampled_from(["", *FORMAT_NAMES]),
)


def assert_content(value: Any, role: str) -> None:
    if isinstance(value, str):
        return
    assert isinstance(value, list)
    assert value
    assert value[-1]["role"] == role
    for message in value:
        assert message.keys() == {"role", "content"}
        assert message["role"] in ("system", "user", "assistant")
        assert isinstance(message["content"], str)


def assert_canonical(collection: Collection, row: dict[str, Any]) -> None:
    texts = {"corpus": ("text",), "demonstrations": ("completion",), "prompts": (),
             "preferences": ("chosen", "rejected")}[collection]  # fmt: skip
    prompt = () if collection == "corpus" else ("prompt",)
    assert row.keys() - {"margin", "tie"} == {*prompt, *texts}
    assert len({type(row[column]) for column in (*prompt, *texts)}) == 1
    for column in prompt:
        assert_content(row[column], "user")
    for column in texts:
        assert_content(row[column], "assistant")
        assert isinstance(row[column], str) or len(row[column]) == 1
    assert row.get("margin", 0.0) >= 0
    assert row.get("tie", True) is True


@settings(max_examples=80)
@given(st.lists(ROWS, min_size=1, max_size=2), st.sampled_from(COLLECTIONS), CONFIGS)
def test_any_row_gives_canonical_rows_or_a_reason(
    rows: list[dict[str, Any]], collection: Collection, config: DataConfig
) -> None:
    for row in gather(rows, collection):
        before = repr(row)
        unread_columns(collection, row, config)
        reason = ""
        try:
            for one in convert_row(collection, row, config):
                assert_canonical(collection, one)
        except RowProblem as problem:
            reason = str(problem)
        assert len(reason) < 300
        assert "\n" not in reason
        assert repr(row) == before
