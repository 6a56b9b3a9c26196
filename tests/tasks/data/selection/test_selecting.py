"""Selection of a corpus: what repeats is found as a slow oracle does, the rest stays as it is."""

import itertools
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from models.rows import read_json, read_rows, write_rows
from tasks.data.inspection.sketches import TextIndex
from tasks.data.selection import duplicates
from tasks.data.selection.config import SelectionConfig
from tasks.data.selection.selecting import select_corpus

CONFIG = SelectionConfig()


def _folder(path: Path, train: list[str], heldout: list[str]) -> Path:
    path.mkdir()
    rows = [{"text": text, "source": "ab"[n % 2], "n": n} for n, text in enumerate(train)]
    write_rows(path / "corpus_train.jsonl", rows)
    write_rows(path / "corpus_heldout.jsonl", [{"text": text} for text in heldout])
    (path / "tasks.json").write_text("{}", encoding="utf-8")
    return path


def _select(
    tmp_path: Path, train: list[str], heldout: list[str], config: SelectionConfig = CONFIG
) -> tuple[list[int], list[dict[str, Any]], dict[str, float]]:
    """Numbers of the rows that stay, what was dropped, and the metrics."""
    data, out = _folder(tmp_path / "data", train, heldout), tmp_path / "out"
    out.mkdir()
    metrics = select_corpus(data, out, config)
    kept = [row["n"] for row in read_rows(out / "corpus_train.jsonl")]
    return kept, read_rows(out / "dropped.jsonl"), metrics


def _sentence(draw: random.Random, words: int) -> list[str]:
    return [_word(draw) for _ in range(words)]


def _word(draw: random.Random) -> str:
    return "".join(draw.choices("abcdefghij", k=4))


def test_rows_that_stay_are_written_as_they_are_and_the_others_with_reasons(
    tmp_path: Path,
) -> None:
    train = ["a dog runs home", "two dogs", "A  dog runs HOME", "a cat sleeps 你好", "x y z x y"]
    kept, dropped, metrics = _select(tmp_path, train, ["a cat sleeps 你好", "nothing like it"])
    assert kept == [0, 3]
    lines = (tmp_path / "data" / "corpus_train.jsonl").read_bytes().splitlines(keepends=True)
    assert (tmp_path / "out" / "corpus_train.jsonl").read_bytes() == lines[0] + lines[3]
    assert dropped == [
        {"text": "two dogs", "source": "b", "n": 1, "reason": "too few words"},
        {"text": "A  dog runs HOME", "source": "a", "n": 2, "reason": "exact duplicate",
         "of": "a dog runs home"},
        {"text": "x y z x y", "source": "a", "n": 4, "reason": "words too short or long"},
    ]  # fmt: skip
    assert metrics["select/rows"] == 5
    assert metrics["select/kept"] == 2
    assert metrics["select/dropped_for/too_few_words"] == 1
    assert metrics["select/dropped_for/exact_duplicate"] == 1
    assert metrics["select/heldout_exact"] == 1
    assert metrics["select/heldout_near"] == 0
    assert metrics["select/kept_bytes"] == len(lines[0] + lines[3]) / sum(map(len, lines))
    assert (tmp_path / "out" / "tasks.json").read_text() == "{}"
    assert read_rows(tmp_path / "out" / "corpus_heldout.jsonl")[0] == {"text": "a cat sleeps 你好"}
    found = read_json(tmp_path / "out" / "selection.json")
    assert found["reasons"] == {
        "too few words": 1, "exact duplicate": 1, "words too short or long": 1
    }  # fmt: skip


def _triples(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return set(zip(words, words[1:], words[2:], strict=False))


def test_near_duplicates_are_those_of_a_slow_oracle(tmp_path: Path) -> None:
    draw = random.Random(3)
    texts = [_sentence(draw, draw.randrange(12, 60)) for _ in range(250)]
    for _ in range(150):  # copies with a few words changed, of originals and of copies
        copy = list(draw.choice(texts))
        for _ in range(draw.randrange(0, 4)):
            copy[draw.randrange(len(copy))] = _word(draw)
        texts.append(copy)
    draw.shuffle(texts)
    train = [" ".join(words) for words in texts]
    kept, dropped, metrics = _select(tmp_path, train, ["held out one two three"])
    # The oracle compares every pair, and keeps the earliest of each group.
    triples = list(map(_triples, train))
    root = list(range(len(train)))
    for one, other in itertools.combinations(range(len(train)), 2):
        a, b = triples[one], triples[other]
        if len(a & b) >= 0.8 * len(a | b):
            low, high = sorted((root[one], root[other]))
            root = [low if each == high else each for each in root]
    wanted = {number for number, first in enumerate(root) if first != number}
    found = {row["n"] for row in dropped}
    assert len(wanted) > 50
    assert not found - wanted  # candidates are compared, so nothing else is dropped
    assert len(found) >= 0.99 * len(wanted)
    assert len(kept) + len(found) == len(train)
    assert all(row["of"] in train for row in dropped)
    near = [row for row in dropped if row["reason"] == "near duplicate"]
    assert metrics["select/dropped_for/near_duplicate"] == len(near) > 20
    assert metrics["select/unchecked"] == 0


def test_similarity_is_the_bound_and_short_documents_are_never_near(tmp_path: Path) -> None:
    draw = random.Random(1)
    words = _sentence(draw, 40)  # 38 triples; one word within changes three: 35 / 41 = 0.854
    train = [" ".join(words), " ".join([*words[:20], "other", *words[21:]])]
    train += ["a dog ran over a hill", "a dog ran over a hill now"]
    kept, _, _ = _select(tmp_path, train, [])
    assert kept == [0, 2, 3]
    for similarity, wanted in ((0.86, [0, 1, 2, 3]), (0.85, [0, 2, 3])):
        folder = tmp_path / str(similarity)
        folder.mkdir()
        kept, _, _ = _select(
            folder, train, [], CONFIG.model_copy(update={"similarity": similarity})
        )
        assert kept == wanted


@pytest.mark.parametrize("heldout", ["report", "drop"])
def test_held_out_documents_in_the_corpus_are_reported_or_dropped(
    tmp_path: Path, heldout: Any
) -> None:
    draw = random.Random(2)
    words = [_sentence(draw, 40) for _ in range(4)]
    held = [" ".join(one) for one in words[:3]]
    train = [
        " ".join(words[3]),
        held[0].upper(),
        " ".join([*words[1][:20], "other", *words[1][21:]]),
        held[0],
    ]
    config = CONFIG.model_copy(update={"heldout": heldout})
    kept, dropped, metrics = _select(tmp_path, train, held, config)
    assert metrics["select/heldout_exact"] == 1
    assert metrics["select/heldout_near"] == 1
    if heldout == "report":
        assert kept == [0, 1, 2]  # row 3 repeats row 1
        return
    assert kept == [0]
    assert [(row["n"], row["reason"], row["of"]) for row in dropped] == [
        (1, "held-out document", held[0]),
        (2, "nearly a held-out document", held[1]),
        (3, "held-out document", held[0]),
    ]


def test_the_earliest_of_similar_documents_stays_though_a_later_one_is_held_out_too(
    tmp_path: Path,
) -> None:
    words = _sentence(random.Random(3), 40)
    first, held = " ".join([*words[:-1], "other"]), " ".join(words)
    kept, dropped, _ = _select(tmp_path, [first, held], [held])
    assert kept == [0]
    assert [(row["n"], row["reason"], row["of"]) for row in dropped] == [
        (1, "near duplicate", first)
    ]


def test_what_is_off_drops_nothing(tmp_path: Path) -> None:
    text = " ".join(_sentence(random.Random(5), 30))
    off = {"exact_duplicates": False, "near_duplicates": False}
    kept, _, _ = _select(tmp_path, [text, text, f"{text} more"], [], CONFIG.model_copy(update=off))
    assert kept == [0, 1, 2]


def test_the_size_of_a_batch_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(7)
    texts = [_sentence(draw, 20) for _ in range(30)]
    train = [" ".join(one) for one in texts + [[*one[:-1], "last"] for one in texts[:10]]]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = _select(tmp_path / "a", train, train[:20])
    taken: list[int] = []
    add = TextIndex.add

    def counted(self: TextIndex, texts: Sequence[str], *rest: Any) -> list[int]:
        taken.append(len(texts))
        return add(self, texts, *rest)

    monkeypatch.setattr(TextIndex, "add", counted)
    monkeypatch.setattr(duplicates, "_AT_A_TIME", 700)  # a row has 112 bytes or more: 7 rows
    assert _select(tmp_path / "b", train, train[:20]) == whole
    assert len(whole[1]) == 10
    assert (sum(taken), max(taken)) == (20 + 40, 7)


def test_a_corpus_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"of 1 documents of the corpus none is left .*too few"):
        _select(tmp_path, ["a"], [])
    assert json.loads((tmp_path / "data" / "tasks.json").read_text()) == {}
