"""Of how much text a vocabulary is learned."""

from pathlib import Path

import pytest

from models.language import vocabulary
from models.language.vocabulary import training_texts
from models.rows import write_rows


@pytest.mark.parametrize(
    ("limit", "stride"),
    [
        # 64 words of 10 bytes, a document each, in rows of 22 bytes and a line's end.
        (640, 1),
        (639, 2),
        (319, 4),
        (160, 4),
        (159, 8),
    ],
)
def test_too_many_distinct_words_are_halved_until_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, stride: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    texts = [f"{number:010}" for number in range(64)]
    write_rows(tmp_path / "c.jsonl", [{"text": text} for text in texts])
    monkeypatch.setattr(vocabulary, "DISTINCT_BYTES", limit)
    assert list(training_texts(tmp_path / "c.jsonl")) == texts[::stride]
    assert (f"learned from 1 in {stride} documents of c.jsonl" in caplog.text) == (stride > 1)


def test_words_that_repeat_are_all_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["the cat sat on", "the mat and sat"] * 50
    write_rows(tmp_path / "c.jsonl", [{"text": text} for text in texts])
    monkeypatch.setattr(vocabulary, "DISTINCT_BYTES", 17)  # the, cat, sat, on, mat, and
    assert list(training_texts(tmp_path / "c.jsonl")) == texts


def test_one_huge_document_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "c.jsonl", [{"text": "abc" * 100}])
    monkeypatch.setattr(vocabulary, "DISTINCT_BYTES", 10)
    assert list(training_texts(tmp_path / "c.jsonl")) == ["abc" * 100]
