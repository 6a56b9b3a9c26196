"""Rows as tokens in an Arrow file: what was encoded, once, in the order that is wanted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from models.language import encoded_rows
from models.language.encoded_rows import EncodedRows, encode_rows, token_type
from models.language.tokenizer import encode_texts
from models.rows import Row, prompt_key, write_rows

ROWS = [
    {"prompt": f"the cat {number % 5}", "text": "the dog ran " * number} for number in range(40)
]


class Encoder:
    """Encodes texts, and remembers the pieces in which rows came."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.pieces: list[list[Row]] = []

    def __call__(self, rows: list[Row]) -> tuple[Mapping[str, list[Any]], Mapping[str, int]]:
        self.pieces.append(rows)
        ids = encode_texts(self.tokenizer, [row["text"] for row in rows])
        return {"ids": ids, "tokens": list(map(len, ids))}, {"tokens": sum(map(len, ids))}

    def open(self, path: Path, cache: Path, **changes: Any) -> EncodedRows:
        columns = {"ids": token_type(self.tokenizer), "tokens": pa.int32()}
        settings: dict[str, Any] = {
            "tokenizer": self.tokenizer, "settings": {"max_tokens": 9}, "cache": cache
        }  # fmt: skip
        return encode_rows(path, self, columns, **settings | changes)


@pytest.fixture
def encoder(tokenizer: Any) -> Encoder:
    return Encoder(tokenizer)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(encoded_rows, "PIECE_BYTES", 500)
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return tmp_path / "rows.jsonl"


def test_rows_are_encoded_in_pieces_and_lie_in_their_order(
    encoder: Encoder, rows: Path, tmp_path: Path
) -> None:
    found = encoder.open(rows, tmp_path / "cache")
    wanted = encode_texts(encoder.tokenizer, [row["text"] for row in ROWS])
    assert found.rows["ids"][:] == wanted
    assert found.numbers("tokens") == list(map(len, wanted))
    assert found.counts == {"taken": 40, "others": 0, "tokens": sum(map(len, wanted))}
    assert found.rows.features["ids"].feature.dtype == "uint16"
    assert len(encoder.pieces) > 10
    assert [row for piece in encoder.pieces for row in piece] == ROWS


def test_ids_beyond_a_hole_of_the_vocabulary_fit(tokenizer: Any) -> None:
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    spec["model"]["vocab"]["a"] = 70_000  # the highest id counts, not how many there are
    holed = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)), eos_token="<|eos|>"
    )
    ids = encode_texts(holed, ["a"])
    assert ids == [[70_000]]
    assert pa.array(ids, type=token_type(holed)).to_pylist() == ids


def test_what_was_encoded_is_found_again_and_nothing_else(
    encoder: Encoder, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encoder.open(rows, tmp_path / "cache")
    pieces = len(encoder.pieces)
    again = encoder.open(rows, tmp_path / "cache")
    assert len(encoder.pieces) == pieces
    assert again.rows[:] == first.rows[:]
    assert again.counts == first.counts
    encoder.open(rows, tmp_path / "cache", settings={"max_tokens": 8})
    assert len(encoder.pieces) == 2 * pieces
    monkeypatch.setattr(encoder.tokenizer, "chat_template", "another")
    encoder.open(rows, tmp_path / "cache")
    assert len(encoder.pieces) == 3 * pieces


def test_some_rows_are_taken_and_the_others_counted(
    encoder: Encoder, rows: Path, tmp_path: Path
) -> None:
    found = encoder.open(rows, tmp_path, takes=lambda row: row["prompt"] == "the cat 3")
    assert [row for piece in encoder.pieces for row in piece] == ROWS[3::5]
    assert (found.counts["taken"], found.counts["others"]) == (8, 32)


def test_rows_of_one_group_come_together_and_undivided(
    encoder: Encoder, rows: Path, tmp_path: Path
) -> None:
    encoder.open(rows, tmp_path, group=prompt_key)
    wanted = [row for number in range(5) for row in ROWS[number::5]]
    assert [row for piece in encoder.pieces for row in piece] == wanted
    for piece in encoder.pieces:
        assert len(piece) % 8 == 0  # whole groups


def test_no_rows_give_no_rows(encoder: Encoder, rows: Path, tmp_path: Path) -> None:
    rows.write_text("", encoding="utf-8")
    for group in (None, prompt_key):
        found = encoder.open(rows, tmp_path / str(group is None), group=group)
        assert len(found.rows) == 0
        assert found.counts["taken"] == 0


def test_encoding_that_fails_leaves_nothing(encoder: Encoder, rows: Path, tmp_path: Path) -> None:
    def stopped(row: Row) -> bool:
        if row is not None and row["text"].count("dog") > 20:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        encoder.open(rows, tmp_path / "cache", takes=stopped)
    assert list((tmp_path / "cache").iterdir()) == []
