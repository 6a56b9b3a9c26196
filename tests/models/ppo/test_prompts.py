"""PPO's prompts: the ids that encoding them at once gives, from a file that is mapped."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from models.language import encoded_rows
from models.language.config import SamplingConfig
from models.language.generation import encode_to_fit
from models.ppo.prompts import read_prompts
from models.rows import write_rows
from tests.models.rollouts.served import tiny_tokenizer

SAMPLING = SamplingConfig(max_completion_tokens=8)
TEXTS = [f"what is {number} and {number + 1}? " * (1 + number % 3) for number in range(40)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    write_rows(path, [{"prompt": text} for text in TEXTS])
    return path


def test_prompts_are_those_of_encoding_at_once(
    make_network: Callable[..., Any], rows: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(encoded_rows, "PIECE_BYTES", 200)  # many pieces
    tokenizer, network = tiny_tokenizer(), make_network("llama")
    with caplog.at_level(logging.WARNING):
        wanted = encode_to_fit(tokenizer, network, TEXTS, SAMPLING)
    said = [one.getMessage() for one in caplog.records]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = read_prompts(rows, tokenizer, network, SAMPLING, tmp_path / "cache")
    assert [one.getMessage() for one in caplog.records] == said
    assert list(found) == wanted
    assert found[3] == wanted[3]
    assert found[-2:] == wanted[-2:]
    assert len(found) == len(TEXTS)


def test_no_prompts_are_refused(make_network: Callable[..., Any], tmp_path: Path) -> None:
    write_rows(tmp_path / "none.jsonl", [])
    with pytest.raises(DataError, match=r"none.jsonl holds no prompts"):
        read_prompts(
            tmp_path / "none.jsonl", tiny_tokenizer(), make_network("llama"), SAMPLING, tmp_path
        )
