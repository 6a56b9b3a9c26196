"""Which rows are chosen, and that their pieces are the tokens of training."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from models.language.config import SamplingConfig, TokenizerConfig, Turns
from models.language.tokenizer import encode_completion, encode_prompt, train_tokenizer
from models.reward.config import RewardStageConfig
from models.rows import write_json, write_rows
from models.training.config import SFTStageConfig
from tasks.preview.rows import Reader, open_reader, show_rows


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    out = tmp_path_factory.mktemp("tokenizer")
    write_rows(out / "corpus.jsonl", [{"text": "the goose is on the lake again"}])
    train_tokenizer(
        corpus=out / "corpus.jsonl",
        config=TokenizerConfig(vocab_size=300),
        context=60,
        out=out / "model",
    )
    return open_reader(
        out / "model",
        "mine",
        sft=SFTStageConfig(max_tokens=40),
        reward=RewardStageConfig(),
        sampling=SamplingConfig(max_completion_tokens=64),
    )


def folder(out: Path, rows: list[dict[str, Any]], name: str) -> Path:
    write_rows(out / f"{name}_train.jsonl", rows)
    write_rows(out / f"{name}_heldout.jsonl", [])
    return out


def row(prompt: str, **rest: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        **{name: [{"role": "assistant", "content": text}] for name, text in rest.items()},
    }


def test_limits_are_the_smaller_of_config_and_context(reader: Reader) -> None:
    assert reader.limits == {
        "corpus": 60,
        "demonstrations": 40,
        "preferences": 60,
        "prompts": 30,  # 64 tokens of completion do not fit: half of the context
    }


@pytest.mark.parametrize(
    ("config", "context"),
    [({"max_position_embeddings": 50}, 50), ({"n_positions": 40}, 40), ({}, 60)],
)
def test_context_is_what_the_config_states_under_any_name(
    config: dict[str, int], context: int, reader: Reader, tmp_path: Path
) -> None:
    """As GPT-2's, whose config.json has no `max_position_embeddings`."""
    shutil.copytree(reader.folder, tmp_path / "model")
    write_json(tmp_path / "model" / "config.json", {"model_type": "gpt2", **config})
    sft, reward, sampling = SFTStageConfig(), RewardStageConfig(), SamplingConfig()
    found = open_reader(tmp_path / "model", "mine", sft=sft, reward=reward, sampling=sampling)
    assert found.context == context


def test_pieces_are_the_tokens_that_training_uses(reader: Reader, tmp_path: Path) -> None:
    given = row("a goose?", completion="on the lake")
    (shown,) = show_rows(folder(tmp_path, [given], "demonstrations"), "demonstrations", 10, reader)
    (side,) = shown.sides
    assert [one.text for one in side.pieces if one.special] == [
        "<|user|>",
        "<|assistant|>",
        "<|eos|>",
    ]
    learned = [one.text for one in side.pieces if one.learned]
    assert "".join(learned) == "on the lake<|eos|>"
    assert len(learned) == len(encode_completion(reader.tokenizer, given["completion"]))
    prompt = encode_prompt(reader.tokenizer, given["prompt"], 60)
    assert len(side.pieces) == len(prompt) + len(learned)


def test_cut_rows_are_shown_though_they_are_rare(reader: Reader, tmp_path: Path) -> None:
    rows = [row(f"goose {at}?", completion="on the lake") for at in range(50)]
    rows[31] = row("the goose is on the lake " * 9, completion="again")
    rows[40] = row("a goose?", completion="x" * 60)
    shown = show_rows(folder(tmp_path, rows, "demonstrations"), "demonstrations", 6, reader)
    numbers = [one.number for one in shown]
    assert len(numbers) == 6
    assert numbers == sorted(set(numbers))
    cut = next(one for one in shown if one.number == 32)
    assert cut.sides[0].cut.startswith("user: the goose is on the lake")
    assert cut.sides[0].cut_tokens > 0
    assert len(cut.sides[0].pieces) == 40
    left_out = next(one for one in shown if one.number == 41)
    assert left_out.dropped == "its completion alone fills 40 tokens"
    assert [bool(one.dropped) for one in shown].count(True) == 1


def test_without_a_model_the_pieces_are_words(tmp_path: Path) -> None:
    given = row("Where is it?", chosen="on the lake", rejected="who knows")
    (shown,) = show_rows(folder(tmp_path, [given], "preferences"), "preferences", 10, None)
    chosen, rejected = shown.sides
    assert [one.text for one in chosen.pieces] == [
        "user: ", "Where", " is", " it?", "\n", "on", " the", " lake",
    ]  # fmt: skip
    assert [one.text for one in rejected.pieces if one.learned] == ["who", " knows"]


@pytest.mark.parametrize(("taught", "learned"), [("all", ["d", "f"]), ("last", ["f"])])
def test_without_a_model_every_answer_is_learned_from_but_those_of_weight_0(
    taught: Turns, learned: list[str], tmp_path: Path
) -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": 0},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "e"},
    ]
    given = {"prompt": turns, "completion": [{"role": "assistant", "content": "f"}]}
    data = folder(tmp_path, [given], "demonstrations")
    (shown,) = show_rows(data, "demonstrations", 10, None, taught)
    (side,) = shown.sides
    assert [piece.text for piece in side.pieces if piece.learned] == learned


def test_held_out_rows_are_shown_where_there_are_no_others(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts_train.jsonl", [])
    write_rows(tmp_path / "prompts_heldout.jsonl", [{"prompt": "who?"}])
    (shown,) = show_rows(tmp_path, "prompts", 3, None)
    assert (shown.heldout, shown.number) == (True, 1)
