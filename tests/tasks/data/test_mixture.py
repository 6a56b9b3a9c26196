"""Weights of a corpus's sources: shares of bytes, whole epochs, the same documents every time."""

import json
from pathlib import Path

import pytest

from models.errors import DataError
from models.rows import read_rows
from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.report import CollectionReport


def folder(tmp_path: Path, **texts: list[str]) -> None:
    for name, lines in texts.items():
        rows = "".join(json.dumps({"text": line}) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(rows)
    pairs = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))


def build(tmp_path: Path, weights: dict[str, float]) -> tuple[list[str], CollectionReport]:
    corpus = ",".join(f"{tmp_path}/{name}.jsonl={weight}" for name, weight in weights.items())
    config = DataConfig(source="sources", corpus=corpus, preferences=f"{tmp_path}/pairs.jsonl")
    report = build_datasets(config, 0, tmp_path / "out")
    texts = [row["text"] for row in read_rows(tmp_path / "out" / "corpus_train.jsonl")]
    held = {row["text"] for row in read_rows(tmp_path / "out" / "corpus_heldout.jsonl")}
    assert held
    assert not held & set(texts)
    metrics = report.metrics()
    for number, name in enumerate(weights, 1):
        file = next(each for each in report.collections[0].files if each.label == f"{name}.jsonl")
        assert metrics[f"data/corpus_epochs_{number}"] == file.epochs
    return texts, report.collections[0]


def test_weights_are_shares_of_bytes_and_the_sum_stays(tmp_path: Path) -> None:
    small = [f"s{n:03}" + "x" * (n % 50) for n in range(200)]
    large = [f"l{n:03}" + "y" * (n % 70) * 3 for n in range(600)]
    folder(tmp_path, small=small, large=large)
    assert {text[0] for text in build(tmp_path, {"small": 1e-9, "large": 1})[0]} == {"l"}
    texts, report = build(tmp_path, {"small": 0.6, "large": 0.4})
    # Lines have 13 bytes around a text; the longest has 224: a source misses its share by less.
    sizes = {side: sum(len(t) + 13 for t in texts if t[0] == side) for side in "sl"}
    total = sum(sizes.values())
    assert abs(sizes["s"] - 0.6 * total) < 250
    repeated, thinned = report.files
    assert repeated.epochs > 4
    assert thinned.epochs < 0.6
    counts = {text: texts.count(text) for text in set(texts)}
    small_counts = {count for text, count in counts.items() if text[0] == "s"}
    whole = int(repeated.epochs)
    assert small_counts == {whole, whole + 1}  # all of it as often as it fits, then a part
    assert {count for text, count in counts.items() if text[0] == "l"} == {1}
    assert (
        report.read + report.repeated
        == report.train + report.heldout
        == len(texts) + (report.heldout)
    )
    assert build(tmp_path, {"small": 0.6, "large": 0.4})[0] == texts


def test_weights_as_the_bytes_are_change_nothing(tmp_path: Path) -> None:
    folder(tmp_path, one=[f"1{n:04}" for n in range(300)], two=[f"2{n:04}" for n in range(300)])
    texts, report = build(tmp_path, {"one": 1, "two": 1})
    sides = [sum(text[0] == side for text in texts) for side in "12"]
    assert abs(sides[0] - sides[1]) <= 1  # held-out texts are replaced, so that bytes are equal
    assert abs(report.repeated) <= 1


def test_a_source_that_would_be_repeated_too_often_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, tiny=["a", "b", "c"], large=["y" * 90 + str(n) for n in range(600)])
    with pytest.raises(DataError, match=r"tiny.jsonl has .* at most 1,000 epochs"):
        build(tmp_path, {"tiny": 1, "large": 0.001})
    folder(tmp_path, tiny=["a"], large=["a", *(str(n) for n in range(60))])
    with pytest.raises(DataError, match=r"large.jsonl|tiny.jsonl has 0 bytes"):
        build(tmp_path, {"large": 1, "tiny": 1})
