"""A corpus as tokens in a file: exact, found again, never used when damaged, bounded in memory."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from models import token_files
from models.language.tokenizer import encode_texts
from models.rows import write_rows
from models.token_files import open_tokens

TEXTS = ["the cat sat", "", "你好 <|eos|> naïve", "a dog ran home", "", "🧑‍🚀" * 40, "mat"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    return tmp_path / "texts.jsonl"


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _written(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The row files that are encoded from now on."""
    seen: list[Path] = []
    original = token_files.iterate_rows

    def iterate(path: Path) -> Any:
        seen.append(path)
        return original(path)

    monkeypatch.setattr(token_files, "iterate_rows", iterate)
    return seen


def test_tokens_are_those_of_each_text_and_then_eos(
    tokenizer: Any, rows: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_files, "BATCH_CHARACTERS", 5)  # so that texts come in many batches
    found = open_tokens(tokenizer, rows)
    wanted = [[*ids, 1] for ids in encode_texts(tokenizer, TEXTS)]
    flat = [token for ids in wanted for token in ids]
    assert found.read(0, 10**6).tolist() == flat
    assert found.read(3, 4).tolist() == flat[3:7]
    assert found.ends().tolist() == np.cumsum([len(ids) for ids in wanted]).tolist()
    assert (found.tokens, found.documents) == (len(flat), len(TEXTS))
    assert found.text_bytes == len("".join(TEXTS).encode())
    assert found.width == 2


def test_settings_of_an_earlier_call_change_no_tokens(tokenizer: Any, rows: Path) -> None:
    wanted = open_tokens(tokenizer, rows).read(0, 10**6)
    tokenizer(["the cat"], truncation=True, max_length=1, padding="max_length")
    assert np.array_equal(open_tokens(tokenizer, rows).read(0, 10**6), wanted)


def test_large_vocabulary_takes_four_bytes(
    tokenizer_folder: Path, rows: Path, tmp_path: Path
) -> None:
    large = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    large.add_tokens([AddedToken(f"word{index}", normalized=False) for index in range(2**16)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=large, eos_token="<|eos|>")
    write_rows(rows, [{"text": "word65535the"}, {"text": "word0"}])
    found = open_tokens(tokenizer, rows, tmp_path / "cache")
    again = open_tokens(tokenizer, rows, tmp_path / "cache")
    first, second = encode_texts(tokenizer, ["word65535the", "word0"])
    assert first[0] > 2**16
    for one in (found, again):
        assert one.width == 4
        assert one.read(0, 99).tolist() == [*first, 1, *second, 1]


def test_corpus_is_encoded_once_for_one_tokenizer(
    tokenizer: Any, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = _written(monkeypatch)
    first = open_tokens(tokenizer, rows, tmp_path / "cache")
    second = open_tokens(tokenizer, rows, tmp_path / "cache")
    assert len(encoded) == 1
    assert second.read(0, 999).tolist() == first.read(0, 999).tolist()
    assert second.ends().tolist() == first.ends().tolist()
    assert (second.text_bytes, second.documents) == (first.text_bytes, first.documents)
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    other = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|pad|>")
    assert open_tokens(other, rows, tmp_path / "cache").read(0, 999).tolist()[-1] == 0
    backend.add_tokens(["cat"])
    open_tokens(
        PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|eos|>"),
        rows,
        tmp_path / "cache",
    )
    assert len(encoded) == 3
    assert len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "empty", "trailer", "foreign"])
def test_damaged_file_is_written_again(
    tokenizer: Any, rows: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = open_tokens(tokenizer, rows, tmp_path / "cache").read(0, 999).tolist()
    [path] = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    flipped = bytes([whole[0] ^ 1])
    path.write_bytes(
        {
            "flipped": flipped + whole[1:],
            "cut": whole[:-7],
            "longer": whole + b"\0",
            "empty": b"",
            "trailer": whole[:-40] + b"\0" * 40,
            "foreign": b"something else, as long as a trailer at the least",
        }[damage]
    )
    assert open_tokens(tokenizer, rows, tmp_path / "cache").read(0, 999).tolist() == wanted
    assert "is damaged and is written again" in caplog.text
    assert path.read_bytes() == whole
    assert list((tmp_path / "cache").iterdir()) == [path]


def test_write_that_fails_leaves_nothing(
    tokenizer: Any, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> Any:
        yield {"text": "the cat"}
        raise KeyboardInterrupt

    monkeypatch.setattr(token_files, "iterate_rows", broken)
    with pytest.raises(KeyboardInterrupt):
        open_tokens(tokenizer, rows, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_two_runs_may_write_at_once(
    tokenizer: Any, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)
    original = token_files.iterate_rows

    def iterate(path: Path) -> Any:
        both.wait(timeout=60)  # neither has a file under its name yet
        yield from original(path)

    monkeypatch.setattr(token_files, "iterate_rows", iterate)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(
            lambda _: open_tokens(tokenizer, rows, tmp_path / "cache").read(0, 999), range(2)
        )
    assert np.array_equal(one, other)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    third = open_tokens(tokenizer, rows, tmp_path / "cache")  # iterates nothing
    assert np.array_equal(third.read(0, 999), one)


def test_file_in_use_outlives_its_removal(tokenizer: Any, rows: Path, tmp_path: Path) -> None:
    found = open_tokens(tokenizer, rows, tmp_path / "cache")
    wanted = open_tokens(tokenizer, rows).read(0, 999).tolist()
    [path] = (tmp_path / "cache").iterdir()
    path.unlink()
    assert found.read(0, 999).tolist() == wanted


def test_few_texts_are_in_memory_at_once(
    tokenizer: Any, rows: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = written = most = 0

    def endless(path: Path) -> Any:
        nonlocal read
        for _ in range(500):
            read += 1
            yield {"text": "the cat sat"}

    class Counted(token_files.Meter):
        def add(self, done: float) -> None:
            nonlocal written, most
            most, written = max(most, read - written), written + 1

    monkeypatch.setattr(token_files, "iterate_rows", endless)
    monkeypatch.setattr(token_files, "BATCH_CHARACTERS", 1)  # a batch a text
    monkeypatch.setattr(token_files, "Meter", Counted)
    assert open_tokens(tokenizer, rows).documents == 500
    assert most <= 2 * threads + 1
