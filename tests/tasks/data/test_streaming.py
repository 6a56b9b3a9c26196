"""The streamed preparation against the simple one in `oracle`, on random rows that repeat."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from models.rows import write_rows
from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.formats import COLLECTIONS, Row
from tasks.data.report import Progress
from tasks.data.spools import spooling
from tests.tasks.data import oracle

STEMS = {
    "pretrain": ("corpus", "train"),
    "sft": ("demonstrations", "train"),
    "pairs_train": ("preferences", "train"),
    "prompts_train": ("prompts", "train"),
    "pairs_test": ("preferences", "heldout"),
    "prompts_test": ("prompts", "heldout"),
}


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


class Draw:
    """Random rows of few words, so that everything repeats: texts, prompts, turned pairs."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.messages = self.random.choice([0.0, 0.0, 0.05, 0.5])
        self.margins = self.random.choice([0.0, 0.1])

    def text(self) -> str:
        words = ["a", "b", "é", "日本", "\x1b[1mb", "c\x85", "\u2028", '"\\', "🙂", " ", ""]
        return "".join(self.random.choices(words, [9, 9, 9, 5, 2, 2, 2, 2, 2, 1, 1], k=2))

    def prompt(self) -> Any:
        text = self.random.choice("pqrstuvwxyz") if self.random.random() < 0.7 else self.text()
        return [turn("user", text)] if self.random.random() < self.messages else text

    def value(self, role: str) -> Any:
        text = self.text()
        is_message = self.random.random() < self.messages
        return [turn(role, text)] if is_message else text

    def row(self, stem: str) -> Row:
        if self.random.random() < 0.03:
            return {"prompt": 3, "text": 4, "completion": None, "chosen": 1, "rejected": []}
        if stem == "pretrain":
            return {"text": self.text() + self.text()}
        if stem == "sft":
            return {"prompt": self.prompt(), "completion": self.value("assistant")}
        if stem.startswith("pairs"):
            one, other = self.value("assistant"), self.value("assistant")
            margin = {"margin": 1.5} if self.random.random() < self.margins else {}
            return {"prompt": self.prompt(), "chosen": one, "rejected": other, **margin}
        return {"prompt": self.prompt()}

    def rows(self, stem: str) -> list[Row]:
        return [self.row(stem) for _ in range(self.random.randint(30, 80))]

    def folder(self) -> dict[str, list[Row]]:
        optional = [stem for stem in STEMS if stem not in ("sft", "pairs_train")]
        chosen = {"sft", "pairs_train", *(stem for stem in optional if self.random.random() < 0.6)}
        return {stem: self.rows(stem) for stem in STEMS if stem in chosen}


@pytest.mark.parametrize("seed", range(60))
def test_streamed_preparation_writes_what_the_simple_one_does(seed: int, tmp_path: Path) -> None:
    draw = Draw(seed)
    rows = draw.folder()
    fraction = draw.random.choice([0.01, 0.2, 0.5])
    (tmp_path / "in").mkdir()
    for stem, content in rows.items():
        write_rows(tmp_path / "in" / f"{stem}.jsonl", content)
    config = DataConfig(source="folder", folder=str(tmp_path / "in"), heldout_fraction=fraction)
    given: dict[str, dict[Any, list[Row]]] = {"train": {}, "heldout": {}}
    for stem, content in rows.items():
        collection, side = STEMS[stem]
        given[side][collection] = content
    wanted = oracle.prepare(given["train"], given["heldout"], fraction)
    report = build_datasets(config, 0, tmp_path / "out", inspected=False)
    for collection in COLLECTIONS:
        for side in ("train", "heldout"):
            expected = getattr(wanted, side)[collection]
            written = (tmp_path / "out" / f"{collection}_{side}.jsonl").read_text("utf-8")
            assert written == "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in expected)
    for each in report.collections:
        assert each.read == wanted.read[each.name]
        assert each.dropped == dict(wanted.dropped[each.name])
        assert sum(file.kept for file in each.files) <= each.read
    assert list(report.overlaps.values()) == wanted.overlaps


def test_progress_tells_rows_and_the_share_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "_PROGRESS_SECONDS", 0.0)
    for name in ("one", "two"):
        texts = [{"text": f"{name} {number} {'far ' * 999}"} for number in range(100)]
        write_rows(tmp_path / f"{name}.jsonl", texts)
    judged = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(20)]
    write_rows(tmp_path / "pairs.jsonl", judged)
    config = DataConfig(
        source="sources", corpus=f"{tmp_path}/*o*.jsonl", preferences=f"{tmp_path}/pairs.jsonl"
    )
    seen: list[Progress] = []
    build_datasets(config, 0, tmp_path / "out", seen.append)
    assert [one.rows for one in seen] == list(range(1, 221))
    assert [one.label for one in seen[::100]] == ["one.jsonl", "two.jsonl", "pairs.jsonl"]
    shares = [one.share or 0.0 for one in seen]
    assert shares == sorted(shares)
    assert shares[99] == pytest.approx(0.5, abs=0.01)
    assert shares[-1] == 1.0
    assert seen[-1].bytes > 800_000


def test_a_refused_preparation_leaves_nothing_behind(tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    config = DataConfig(source="sources", preferences=str(tmp_path / "pairs.jsonl"))
    (tmp_path / "there").mkdir()
    for out in ("new", "there"):
        with pytest.raises(DataError):
            build_datasets(config, 0, tmp_path / out)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []
