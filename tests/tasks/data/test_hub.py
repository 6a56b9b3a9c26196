"""Hub ids, without a network: a local directory in place of an id, and a stubbed client."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest

from models.errors import DataError
from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.sources import fingerprint, load_splits, resolve_commit


def transcript(number: int, ending: str) -> str:
    return f"\n\nHuman: question {number}\n\nAssistant: {ending}"


def write_pairs(path: Path, numbers: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"chosen": transcript(n, f"good {n}"), "rejected": transcript(n, "bad")} for n in numbers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the library stores out of the user's home."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs" / "train.jsonl", range(40))
    return tmp_path / "pairs"


def config(pairs: Path | str, **values: str) -> DataConfig:
    return DataConfig.model_validate({"source": "sources", "preferences": str(pairs), **values})


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_preferences_alone_make_all_but_the_corpus(pairs: Path, tmp_path: Path) -> None:
    write_pairs(pairs / "test.jsonl", range(100, 110))
    out = tmp_path / "out"
    report = build_datasets(config(pairs), 0, out)
    assert report.conversational
    assert len(read(out / "preferences_train.jsonl")) == 40
    assert len(read(out / "preferences_heldout.jsonl")) == 10
    question = [{"role": "user", "content": "question 100"}]
    assert read(out / "demonstrations_heldout.jsonl")[0] == {
        "prompt": question,
        "completion": [{"role": "assistant", "content": "good 100"}],
    }
    assert read(out / "prompts_heldout.jsonl")[0] == {"prompt": question}
    assert len(read(out / "demonstrations_train.jsonl")) == 40
    assert len(read(out / "prompts_train.jsonl")) == 40
    assert (out / "corpus_train.jsonl").read_bytes() == b""
    assert (out / "corpus_heldout.jsonl").read_bytes() == b""


def test_hub_without_test_split_is_split_by_prompt(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_datasets(config(pairs), 0, out)
    train = read(out / "preferences_train.jsonl")
    heldout = read(out / "preferences_heldout.jsonl")
    assert len(train) + len(heldout) == 40
    assert heldout
    assert [row["prompt"] for row in read(out / "prompts_heldout.jsonl")] == [
        row["prompt"] for row in heldout
    ]


def test_hub_takes_every_collection_it_is_told(pairs: Path, tmp_path: Path) -> None:
    for name, row in {
        "corpus": '{"text": "t%d"}',
        "demos": '{"prompt": "p%d", "completion": "c"}',
        "asked": '{"prompt": "q%d"}',
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text("\n".join(row % n for n in range(30)))
    told = config(
        pairs,
        corpus=str(tmp_path / "corpus"),
        demonstrations=str(tmp_path / "demos"),
        prompts=str(tmp_path / "asked"),
    )
    report = build_datasets(told, 0, tmp_path / "out")
    assert [each.train + each.heldout for each in report.collections] == [30, 30, 40, 30]
    # Pairs are dialogues, so the plain prompts became user messages.
    asked = read(tmp_path / "out" / "prompts_train.jsonl")
    asked += read(tmp_path / "out" / "prompts_heldout.jsonl")
    assert {"prompt": [{"role": "user", "content": "q0"}]} in asked


def stub(
    monkeypatch: pytest.MonkeyPatch, load: Callable[..., dict[str, datasets.Dataset]]
) -> list[tuple[str, str | None]]:
    """A hub that knows every name; what it was asked for."""
    asked: list[tuple[str, str | None]] = []

    def info(self: object, hub_id: str, revision: str | None) -> SimpleNamespace:
        asked.append((hub_id, revision))
        return SimpleNamespace(sha="c0ffee")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def splits_named(*names: str) -> dict[str, datasets.Dataset]:
    return {name: datasets.Dataset.from_list([{"text": name}]) for name in names}


def test_hub_split_of_the_collection_goes_before_the_common_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    splits = splits_named("test_prefs", "test", "train", "train_prefs", "train_sft")
    stub(monkeypatch, lambda *_, **__: splits)
    pairs = load_splits("owner/name", "", "preferences")
    assert list(pairs.train) == [{"text": "train_prefs"}]
    assert pairs.heldout is not None
    assert list(pairs.heldout) == [{"text": "test_prefs"}]
    demonstrations = load_splits("owner/name", "", "demonstrations")
    assert (demonstrations.train_name, demonstrations.heldout_name) == ("train_sft", "test")
    assert load_splits("owner/name", "", "corpus").train_name == "train"


def test_hub_refused_without_train_split(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, lambda *_, **__: splits_named("validation"))
    with pytest.raises(DataError) as caught:
        load_splits("owner/name", "", "preferences")
    for words in ("got splits validation", "wanted one named train", "choose another"):
        assert words in str(caught.value)


def test_hub_loads_the_commit_that_the_revision_stands_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = []

    def load(name: str, config: str | None, revision: str) -> dict[str, datasets.Dataset]:
        loaded.append((name, config, revision))
        return splits_named("train")

    asked = stub(monkeypatch, load)
    assert load_splits("owner/name", "", "corpus").heldout is None
    assert list(load_splits("owner/name:small", "v2", "corpus").train) == [{"text": "train"}]
    assert asked == [("owner/name", None), ("owner/name", "v2")]
    assert loaded == [("owner/name", None, "c0ffee"), ("owner/name", "small", "c0ffee")]


@pytest.mark.parametrize(("hub_id", "got"), [("o/n", "none named"), ("o/n:x", "configuration x")])
def test_hub_names_the_configurations_of_a_dataset(
    monkeypatch: pytest.MonkeyPatch, hub_id: str, got: str
) -> None:
    def load(*_: object, **__: object) -> dict[str, datasets.Dataset]:
        raise ValueError("Config name is missing.")

    stub(monkeypatch, load)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda *_, **__: ["large", "small"])
    with pytest.raises(DataError) as caught:
        load_splits(hub_id, "", "corpus")
    for words in (got, "large, small", "o/n:large"):
        assert words in str(caught.value)


def test_hub_rows_are_read_while_they_are_iterated(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime.datetime(2026, 1, 2)
    rows = [{"n": n, "messages": [{"role": "user", "at": moment}]} for n in range(600)]
    stub(monkeypatch, lambda *_, **__: {"train": datasets.Dataset.from_list(rows)})
    train = load_splits("owner/name", "", "corpus").train
    assert next(iter(train)) == {
        "n": 0,
        "messages": [{"role": "user", "at": "2026-01-02T00:00:00"}],
    }
    assert [row["n"] for row in train] == list(range(600))  # twice, and beyond one batch


def test_hub_fingerprint_follows_id_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = {"owner/a": "1", "owner/b": "1"}
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "dataset_info",
        lambda self, hub_id, revision: SimpleNamespace(sha=commits[hub_id]),
    )
    first = fingerprint(config("owner/a"))
    assert fingerprint(config("owner/a@main")) == first
    assert fingerprint(config("owner/b")) != first
    commits["owner/a"] = "2"
    assert fingerprint(config("owner/a")) != first


def test_hub_fingerprint_of_a_local_directory_follows_content(pairs: Path) -> None:
    first = fingerprint(config(pairs))
    assert fingerprint(config(pairs)) == first
    write_pairs(pairs / "train.jsonl", range(41))
    assert fingerprint(config(pairs)) != first


def test_hub_refused_when_it_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def info(self: object, hub_id: str, revision: str | None) -> SimpleNamespace:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    with pytest.raises(DataError) as caught:
        resolve_commit("owner/name", "v2")
    for words in (
        "hub dataset owner/name at revision v2",
        "got ConnectionError: no route",
        "wanted a public dataset and a network",
        "@REVISION",
    ):
        assert words in str(caught.value)


def test_hub_refused_when_nothing_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> dict[str, datasets.Dataset]:
        raise ValueError("odd")

    stub(monkeypatch, load)
    monkeypatch.setattr(datasets, "get_dataset_config_names", load)
    with pytest.raises(DataError, match="hollow at revision main cannot be loaded"):
        load_splits("owner/hollow", "", "corpus")
