"""The whole preparation on small hand-made folders, on the world, and on real reviews."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import DataError
from models.rows import read_rows
from tasks.data import sources
from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.formats import COLLECTIONS, Row
from tasks.data.report import CollectionReport, PreparationReport
from tasks.data.split import content_key, group_key
from tasks.reports.data import quality_text

FILES = [f"{each}_{side}.jsonl" for each in COLLECTIONS for side in ("train", "heldout")]


def write_folder(folder: Path, **files: list[Any]) -> DataConfig:
    """Write rows by stem; what is not given is a small sound default."""
    rows: dict[str, list[Any]] = {
        "pretrain": [{"text": f"text {n}"} for n in range(40)],
        "sft": [{"prompt": f"p{n}", "completion": f" c{n}"} for n in range(40)],
        "pairs_train": [
            {"prompt": f"p{n}", "chosen": "good", "rejected": "bad"} for n in range(40)
        ],
    }
    folder.mkdir(exist_ok=True)
    for stem, content in (rows | files).items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (folder / f"{stem}.jsonl").write_text(text, encoding="utf-8")
    return DataConfig(source="folder", folder=str(folder), heldout_fraction=0.2)


def build(config: DataConfig, out: Path) -> tuple[dict[str, list[Row]], PreparationReport]:
    report = build_datasets(config, 0, out)
    return {name.removesuffix(".jsonl"): read_rows(out / name) for name in FILES}, report


def of(report: PreparationReport, name: str) -> CollectionReport:
    return next(each for each in report.collections if each.name == name)


def assert_sound(data: dict[str, list[Row]], report: PreparationReport) -> None:
    """What holds for every preparation: all rows counted, none held out and trained on."""
    forms = set()
    for collection in COLLECTIONS:
        train, heldout = data[f"{collection}_train"], data[f"{collection}_heldout"]
        counted = of(report, collection)
        assert (counted.train, counted.heldout) == (len(train), len(heldout))
        assert counted.read + counted.expanded == (
            len(train) + len(heldout) + sum(counted.dropped.values())
        )
        held = {content_key(collection, row) for row in heldout}
        assert not any(content_key(collection, row) in held for row in train)
        for row in [*train, *heldout]:
            columns = ("prompt", "completion", "chosen", "rejected")
            forms |= {type(row[column]) for column in columns if column in row}
    assert forms == {list if report.conversational else str}


def test_build_writes_all_files_and_the_report(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    data, report = build(write_folder(tmp_path / "in"), out)
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "quality.json"])
    stored = json.loads((out / "quality.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(asdict(report)))
    assert_sound(data, report)


def test_build_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    config = write_folder(tmp_path / "in")
    for out in ("a", "b"):
        build_datasets(config, 0, tmp_path / out)
    a, b = ({f.name: f.read_bytes() for f in (tmp_path / out).iterdir()} for out in ("a", "b"))
    assert a == b


def test_build_keeps_plain_completions_as_they_are(tmp_path: Path) -> None:
    data, _ = build(write_folder(tmp_path / "in"), tmp_path / "out")
    rows = data["demonstrations_train"] + data["demonstrations_heldout"]
    assert {row["completion"] for row in rows} == {f" c{n}" for n in range(40)}


def test_build_derives_prompts_from_demonstrations(tmp_path: Path) -> None:
    data, _ = build(write_folder(tmp_path / "in"), tmp_path / "out")
    for side in ("train", "heldout"):
        assert [row["prompt"] for row in data[f"prompts_{side}"]] == [
            row["prompt"] for row in data[f"demonstrations_{side}"]
        ]


def test_build_takes_given_heldout_rows_and_drops_them_from_training(tmp_path: Path) -> None:
    pairs = [{"prompt": f"p{n}", "chosen": "good", "rejected": "bad"} for n in (1, 99)]
    asked = [{"prompt": "p2"}, {"prompt": "p98"}, {"prompt": "p98"}]
    config = write_folder(tmp_path / "in", pairs_test=pairs, prompts_test=asked)
    data, report = build(config, tmp_path / "out")
    assert_sound(data, report)
    assert data["preferences_heldout"] == pairs
    assert data["prompts_heldout"] == asked[:2]
    assert len(data["preferences_train"]) == 39
    assert of(report, "preferences").dropped == {"held-out row in training": 1}
    assert {"prompt": "p2"} not in data["prompts_train"]
    # Rows of demonstrations are compared by content: the prompt alone does not hold them out.
    assert {row["prompt"] for row in data["prompts_train"]} == {
        row["prompt"] for row in data["demonstrations_train"]
    } - {"p2"}


def test_build_splits_given_training_prompts_when_no_heldout_are_given(tmp_path: Path) -> None:
    config = write_folder(tmp_path / "in", prompts_train=[{"prompt": f"q{n}"} for n in range(30)])
    data, report = build(config, tmp_path / "out")
    assert_sound(data, report)
    prompts = [row["prompt"] for row in data["prompts_train"] + data["prompts_heldout"]]
    assert sorted(prompts) == sorted(f"q{n}" for n in range(30))


def test_build_meets_texts_in_one_file_and_messages_in_the_next(tmp_path: Path) -> None:
    talk = [
        {"messages": [{"role": "user", "content": f"p{n}"}, {"role": "assistant", "content": "c"}]}
        for n in range(20)
    ]
    config = write_folder(
        tmp_path / "in",
        sft=[*talk, {"prompt": "p0", "completion": "c"}],
        prompts_test=[{"prompt": "p0"}],
    )
    data, report = build(config, tmp_path / "out")
    assert_sound(data, report)
    assert report.conversational
    assert data["prompts_heldout"] == [{"prompt": [{"role": "user", "content": "p0"}]}]
    assert data["preferences_train"][0]["chosen"] == [{"role": "assistant", "content": "good"}]
    # As messages the last row is the first again.
    assert of(report, "demonstrations").dropped == {"duplicate": 1}


def test_build_gives_every_pair_a_margin_when_one_has_it(tmp_path: Path) -> None:
    pairs: list[Any] = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(20)]
    test = [{"prompt": "t", "chosen": "a", "rejected": "b"}]
    pairs[3]["margin"] = 2
    config = write_folder(tmp_path / "in", pairs_train=pairs, pairs_test=test)
    data, _ = build(config, tmp_path / "out")
    assert [row["margin"] for row in data["preferences_train"]] == [0.0] * 3 + [2.0] + [0.0] * 16
    assert data["preferences_heldout"][0]["margin"] == 0.0


def test_build_makes_all_pairs_of_rankings_and_demonstrations_of_the_best(tmp_path: Path) -> None:
    ranked = [
        {"prompt": f"p{n}", "completions": ["mid", "best", "worst", "worst too"],
         "scores": [2, 3, 1, 1]}
        for n in range(20)
    ]  # fmt: skip
    write_folder(tmp_path / "in", pairs_train=ranked)
    config = DataConfig(
        source="sources", preferences=str(tmp_path / "in" / "pairs_train.jsonl"), ties="half"
    )
    data, report = build(config, tmp_path / "out")
    assert_sound(data, report)
    pairs = data["preferences_train"]
    assert [row["prompt"] for row in pairs] == sorted(
        (row["prompt"] for row in pairs), key=[row["prompt"] for row in pairs].index
    )
    assert len(pairs) + len(data["preferences_heldout"]) == 20 * 6
    assert {(row["chosen"], row["rejected"], row["tie"]) for row in pairs} == {
        ("best", "mid", False),
        ("best", "worst", False),
        ("best", "worst too", False),
        ("mid", "worst", False),
        ("mid", "worst too", False),
        ("worst", "worst too", True),
    }
    assert of(report, "preferences").expanded == 20 * 5
    shown = data["demonstrations_train"] + data["demonstrations_heldout"]
    assert {row["completion"] for row in shown} == {"best"}
    assert len(data["prompts_train"]) + len(data["prompts_heldout"]) == 20


def test_build_reports_names_of_files_and_columns_that_are_no_utf8(tmp_path: Path) -> None:
    pairs = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b", "x\ud800": 1} for n in range(20)]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "caf\udce9.jsonl"  # a byte of Latin-1, as Python shows it
    path.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    config = DataConfig(source="sources", preferences=f"{tmp_path}/in")
    report = build_datasets(config, 0, tmp_path / "out", inspected=False)
    assert json.loads((tmp_path / "out" / "quality.json").read_bytes()) == json.loads(
        json.dumps(asdict(report))
    )
    (file,) = of(report, "preferences").files
    assert (file.label, file.unread) == (path.name, {"x\ud800": 20})
    quality_text(report).encode()


def test_build_counts_the_traps_of_real_files(tmp_path: Path) -> None:
    sound = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(20)]
    config = write_folder(
        tmp_path / "in",
        pretrain=[{"text": f"t{n}"} for n in range(20)]
        + [{"text": "t0"}, {"text": " "}, {"text": "of\x85course"}, {"text": "\x1b[1mbold\x1b[0m"}],
        sft=[{"prompt": f"p{n}", "completion": "I am {{name}}"} for n in range(20)]
        + [{"prompt": "p", "completion": ""}, {"prompt": "x" * 501, "completion": "long"}],
        pairs_train=[
            *sound,
            {"prompt": "p0", "chosen": "a", "rejected": "b"},
            {"prompt": "q", "chosen": "same", "rejected": "same"},
            {"prompt": "r", "chosen": "a", "rejected": "b"},
            {"prompt": "r", "chosen": "b", "rejected": "a"},
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
        ],
    ).model_copy(update={"max_prompt_characters": 500})
    data, report = build(config, tmp_path / "out")
    assert_sound(data, report)
    assert of(report, "corpus").dropped == {"duplicate": 1, "empty text": 1}
    assert of(report, "corpus").cleaned == 2
    texts = [row["text"] for row in data["corpus_train"] + data["corpus_heldout"]]
    assert {"of course", "bold"} <= set(texts)
    assert of(report, "demonstrations").dropped == {
        "empty completion": 1,
        "prompt longer than 500 characters": 1,
    }
    assert of(report, "demonstrations").placeholders == 20
    assert of(report, "preferences").dropped == {
        "the pair stands in both directions": 2,
        "chosen equal to rejected": 1,
        "duplicate": 1,
        "chosen and rejected differ before the last turn": 1,
    }


def test_build_refused_when_all_prompts_are_one(tmp_path: Path) -> None:
    same = [{"prompt": "p", "completion": f"c{n}"} for n in range(20)]
    with pytest.raises(DataError) as caught:
        build_datasets(write_folder(tmp_path / "in", sft=same), 0, tmp_path / "out")
    for words in (
        "demonstrations from sft.jsonl",
        "got 20 training and 0 held-out rows out of 20 read",
        "wanted at least one of each, with different prompts",
        "add rows",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_build_refused_when_all_training_rows_are_held_out(tmp_path: Path) -> None:
    pairs = [{"prompt": f"p{n}", "chosen": "good", "rejected": "bad"} for n in range(40)]
    with pytest.raises(DataError, match="got 0 training and 40 held-out rows out of 80 read"):
        build_datasets(write_folder(tmp_path / "in", pairs_test=pairs), 0, tmp_path / "out")


@pytest.fixture(scope="module")
def small_world() -> DataConfig:
    world = {"documents": 300, "demonstrations": 400, "preferences": 200}
    return DataConfig.model_validate({"source": "world", "world": world})


def test_build_of_the_world_keeps_repeated_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair = {"prompt": "p1", "chosen": "a", "rejected": "b"}
    world = SimpleNamespace(
        corpus=[{"text": f"fact {n % 500}"} for n in range(1000)],
        demonstrations=[{"prompt": f"p{n % 50}", "completion": "c"} for n in range(200)],
        preferences=[pair, pair],
        heldout_preferences=[{**pair, "prompt": "q1"}] * 2,
        prompts=[{"prompt": "p1"}],
        heldout_prompts=[{"prompt": "q1"}],
        contrasts=[],
    )
    monkeypatch.setattr(sources, "generate_world", lambda config, seed: world)
    data, report = build(DataConfig(heldout_fraction=0.5), tmp_path / "out")
    assert_sound(data, report)
    assert [each.read for each in report.collections] == [1000, 200, 4, 2]
    assert [each.train + each.heldout for each in report.collections] == [1000, 200, 4, 2]
    # 2% of the world's texts are held out whatever the config says: 500 facts give 10 with a
    # standard deviation of 3.1, each twice; half of them would be 500 rows.
    assert 2 <= len(data["corpus_heldout"]) <= 60
    assert not (tmp_path / "out" / "contrasts.jsonl").exists()


def test_build_of_the_world_is_sound(small_world: DataConfig, tmp_path: Path) -> None:
    data, report = build(small_world, tmp_path / "out")
    assert_sound(data, report)
    for collection in COLLECTIONS:
        assert of(report, collection).dropped == {}
        held = {group_key(collection, row) for row in data[f"{collection}_heldout"]}
        assert held
        assert not any(group_key(collection, row) in held for row in data[f"{collection}_train"])
    contrasts = read_rows(tmp_path / "out" / "contrasts.jsonl")
    assert len(contrasts) == report.contrasts > 0
    assert set(contrasts[0]) == {"prompt", "chosen", "rejected", "respect"}
    assert type(contrasts[0]["prompt"]) is type(data["prompts_train"][0]["prompt"])


def test_build_of_the_world_without_ready_made_pairs(
    small_world: DataConfig, tmp_path: Path
) -> None:
    world = small_world.world.model_copy(update={"preferences": 0})
    data, report = build(small_world.model_copy(update={"world": world}), tmp_path / "out")
    assert_sound(data, report)
    assert data["preferences_train"] == []
    assert data["preferences_heldout"]


def test_build_of_the_world_follows_the_seed(small_world: DataConfig, tmp_path: Path) -> None:
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        build_datasets(small_world, seed, tmp_path / out)
    a, b, c = ((tmp_path / out / "preferences_train.jsonl").read_bytes() for out in ("a", "b", "c"))
    assert a == b
    assert a != c


def test_build_of_english_reviews(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "reviews_en"
    data, report = build(DataConfig(source="folder", folder=str(folder)), tmp_path / "out")
    assert_sound(data, report)
    assert not report.conversational
    # Given: 6,555 pairs and 549 test pairs; 5,973 prompts, of which 324 are among the 936 held out.
    assert [each.read for each in report.collections] == [10462, 9180, 6555 + 549, 5973 + 936]
    assert len(data["preferences_train"]) == 6555
    assert len(data["preferences_heldout"]) == 549
    assert len(data["prompts_train"]) == 5973 - 324
    assert len(data["prompts_heldout"]) == 936
    assert of(report, "prompts").dropped == {"held-out row in training": 324}
    assert of(report, "corpus").cleaned == 10
    assert all(row["completion"].startswith(" ") for row in data["demonstrations_train"])


def test_build_of_chinese_reviews(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "reviews_zh"
    data, report = build(DataConfig(source="folder", folder=str(folder)), tmp_path / "out")
    assert_sound(data, report)
    assert report.conversational
    assert data["prompts_heldout"][0] == {"prompt": [{"role": "user", "content": "书籍评论：一个"}]}
    # Counted in the files: 32 repeated texts, one repeated demonstration, two pairs of equals.
    assert of(report, "corpus").dropped == {"duplicate": 32}
    assert of(report, "demonstrations").dropped == {"duplicate": 1}
    assert of(report, "preferences").dropped == {"chosen equal to rejected": 2}
    assert len(data["preferences_heldout"]) == 221
    assert len(data["prompts_heldout"]) == 1147
    # The prompts of the training demonstrations, less those held out.
    held = {group_key("prompts", row) for row in data["prompts_heldout"]}
    shown = {group_key("prompts", row) for row in data["demonstrations_train"]}
    assert {group_key("prompts", row) for row in data["prompts_train"]} == shown - held
