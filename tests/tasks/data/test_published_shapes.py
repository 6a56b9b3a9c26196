"""More shapes of published sets and of tools' exports, beyond the field cases; our own texts."""

import json
from pathlib import Path

import pytest

from tests.tasks.data.test_field_cases import (
    ANSWERED,
    BREAD,
    CHOSEN,
    DRY,
    LAMP,
    SYSTEM,
    YEAST,
    Case,
    asked,
    better,
    faults,
    outcome,
)

BAD = "Lamps shine."
TURNED = {"prompt": LAMP, "chosen": BAD, "rejected": DRY}
WITH_SYSTEM = {"prompt": asked(LAMP, system=True), "completion": DRY}


def two(first: str = "response_0", second: str = "response_1", **more: object) -> dict[str, object]:
    return {"prompt": LAMP, first: DRY, second: BAD} | more


SHAPES = {
    "a better and a safer one (PKU)": Case(
        [two(better_response_id=0, safer_response_id=1), two(better_response_id=1)],
        [CHOSEN, TURNED], "preferences", least=2,
    ),
    "a strength of preference (HelpSteer)": Case(
        [two("response_1", "response_2", preference_strength=strength) for strength in (-2, 3, 0)],
        [CHOSEN, TURNED], "preferences", "tie", 2,
    ),
    "lists as texts and three flags (LMSYS)": Case(
        [{"model_a": "x", "model_b": "y", "prompt": json.dumps([LAMP]),
          "response_a": json.dumps([DRY]), "response_b": json.dumps([BAD]),
          "winner_model_a": int(won == 0), "winner_model_b": int(won == 1),
          "winner_tie": int(won == 2)} for won in range(3)],
        [CHOSEN, TURNED], "preferences", "tie", 2,
    ),
    "generations and ratings (distilabel)": Case(
        [{"input": LAMP, "generations": [BAD, DRY, "Hm."], "ratings": [1, 5, None],
          "order": ["a", "b", "c"]}],
        [CHOSEN], "preferences", "rank|score|rating", 1,
    ),
    "labels of people (Quartet's own labels.jsonl)": Case(
        [{"key": "1f", "prompt": LAMP, "completions": [BAD, DRY, "Hm."], "ratings": [1, 7, None],
          "rater": "ann", "time": "2026-11-28T17:42:52+00:00", "comments": ["", "dry", ""],
          "queue": "run feedback 1f", "trace": "tr-1"}],
        [CHOSEN], "preferences", "rank|score|rating", 1,
    ),
    "a context of its own (Dolly)": Case(
        [{"instruction": "Say who waits.", "context": "Ada waits.", "response": "Ada.",
          "category": "qa"}],
        [{"prompt": "Say who waits.\n\nAda waits.", "completion": "Ada."}], least=1,
    ),
    "a system prompt (Orca)": Case(
        [{"id": "1", "system_prompt": SYSTEM["content"], "question": LAMP, "response": DRY}],
        [WITH_SYSTEM], least=1,
    ),
    "a system prompt that is empty": Case(
        [{"id": "1", "system_prompt": "", "question": LAMP, "response": DRY}], [ANSWERED], least=1,
    ),
    "question and answer": Case([{"question": LAMP, "answer": DRY}], [ANSWERED], least=1),
    "a prompt beside its dialogue (UltraChat)": Case(
        [{"prompt": LAMP, "prompt_id": "9", "messages": asked(LAMP, DRY, "And then?", "Wait.")}],
        [{"prompt": asked(LAMP, DRY, "And then?"), "completion": "Wait."}], least=1,
    ),
    "turns without roles (LIMA)": Case(
        [{"conversations": [LAMP, DRY], "source": "own"}], [ANSWERED], says="role|turn|text|^",
    ),
    "other bots": Case(
        [{"conversations": [{"from": "user", "value": LAMP}, {"from": "chatgpt", "value": DRY}]}],
        [ANSWERED], least=1,
    ),
    "one text of a template (Guanaco)": Case(
        [{"text": f"### Human: {LAMP}### Assistant: {DRY}"}], [ANSWERED],
    ),
    "ChatML in a text": Case(
        [{"prompt": f"<|im_start|>user\n{LAMP}<|im_end|>\n<|im_start|>assistant\n",
          "completion": f"{DRY}<|im_end|>"}], [ANSWERED],
    ),
    "contents and parts (Gemini)": Case(
        [{"contents": [{"role": "user", "parts": [{"text": LAMP}]},
                       {"role": "model", "parts": [{"text": DRY}]}]}],
        [ANSWERED], says="contents|messages",
    ),
    "system beside messages (Anthropic)": Case(
        [{"system": SYSTEM["content"], "messages": [
            {"role": "user", "content": LAMP},
            {"role": "assistant", "content": [{"type": "text", "text": DRY}]}]}],
        [WITH_SYSTEM], least=1,
    ),
    "answers of users in a message list": Case(
        [{"prompt": LAMP, "chosen": asked(DRY), "rejected": asked(BAD)}], [], "preferences",
        "assistant",
    ),
    "an export of Label Studio": Case(
        [{"id": 1, "annotations": [{"result": [{"value": {"selected": "left"}}]}],
          "data": {"prompt": LAMP, "answer1": DRY, "answer2": BAD}}],
        [], "preferences", "annotations",
    ),
    "a template around pairs": Case(
        [{"chosen": f"[INST] {LAMP} [/INST] {DRY}", "rejected": f"[INST] {LAMP} [/INST] {BAD}"}],
        [CHOSEN], "preferences",
    ),
    "a preference of 0 or 1 between a and b": Case(
        [two("response_a", "response_b", preference=which) for which in (0, 1)], [], "preferences",
        "preference|verdict",
    ),
    "a verdict in brackets": Case(
        [two("response_a", "response_b", winner=winner) for winner in
         ("[[A]]", "Model B", "[[C]]", "none of them, really")],
        [CHOSEN, TURNED], "preferences", "tie", 2,
    ),
    "a label of neither on pairs": Case(
        [CHOSEN | {"label": 7}], [], "preferences", "label|verdict",
    ),
    "rank against score": Case(
        [{"prompt": LAMP, "answers": [{"answer": BAD, "rank": 1, "score": 2},
                                      {"answer": DRY, "rank": 2, "score": 9}]}],
        [], "preferences", "contradict|disagree",
    ),
    "labels as words": Case(
        [ANSWERED | {"label": "True"},
         *({"prompt": LAMP, "completion": BAD, "label": label} for label in ("False", None, "7"))],
        [ANSWERED], least=1, says="label|bad",
    ),
    "thumbs under another name": Case(
        [ANSWERED | {"feedback": "thumbs_up"},
         {"prompt": LAMP, "completion": BAD, "feedback": "thumbs_down"}],
        [ANSWERED], least=1, says="feedback|bad",
    ),
    "answers marked as wrong": Case(
        [ANSWERED | {"is_correct": True}, {"prompt": LAMP, "completion": BAD, "is_correct": False}],
        [ANSWERED], says="is_correct|bad", least=1,
    ),
    "two columns that could be the prompt": Case(
        [{"prompt": LAMP, "question": BREAD, "completion": YEAST}], [], says="prompt",
    ),
    "thanks behind the answer": Case(
        [{"messages": asked(LAMP, DRY, "Thanks.")}], [ANSWERED], least=1,
    ),
    "summaries of a post": Case(
        [{"info": {"post": BREAD, "title": None}, "choice": 1,
          "summaries": [{"text": "Heat.", "policy": "p"}, {"text": YEAST, "policy": "q"}]}],
        [better(YEAST, "Heat.")], "preferences", least=1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_published_shape_is_read_right_or_refused(name: str, tmp_path: Path) -> None:
    found = outcome(SHAPES[name], tmp_path)
    if wrong := [*faults(SHAPES[name], found)]:
        message = f"{'; '.join(wrong)}; it says: {found.said[:1000]}"
        pytest.fail(message, pytrace=False)
