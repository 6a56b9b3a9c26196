"""Sources named one by one: what a field means, which files are held out, what is refused."""

import json
from pathlib import Path

import pytest

from models.errors import DataError
from models.rows import read_rows
from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.formats import Row
from tasks.data.named import NamedSource, fields, quote
from tasks.data.sources import check_source, fingerprint, found_files, uses_hub


def write(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(first: int, count: int) -> list[Row]:
    return [
        {"prompt": f"p{n}", "chosen": f"good {n}", "rejected": f"bad {n}"}
        for n in range(first, first + count)
    ]


def config(**values: str) -> DataConfig:
    return DataConfig.model_validate({"source": "sources", "heldout_fraction": 0.2, **values})


def parsed(text: str) -> list[NamedSource]:
    (one,) = (sources for name, *_, sources in fields(config(corpus=text, preferences="a/b"))
              if name == "corpus")  # fmt: skip
    return one


def labels(given: DataConfig) -> list[tuple[str, bool]]:
    return [(file.label, file.heldout) for file in found_files(given)]


def test_a_field_holds_several_sources_with_weights(tmp_path: Path) -> None:
    assert parsed(" a/b@main=0.7, c.jsonl = 3 ") == [("a/b@main", 0.7), ("c.jsonl", 3.0)]
    assert parsed("a/b,c/d") == [("a/b", None), ("c/d", None)]
    odd = tmp_path / "year=2024, all"
    odd.mkdir()
    assert parsed(str(odd)) == [(str(odd), None)]  # what is there is meant as it is written
    assert parsed(f"{odd.parent}/year=2024, all=2") == [(str(tmp_path / "year"), 2024.0),
                                                        ("all", 2.0)]  # fmt: skip


def test_names_with_commas_stand_in_quotes() -> None:
    assert parsed(' "a,b.jsonl" = 2 , c.jsonl=1') == [("a,b.jsonl", 2.0), ("c.jsonl", 1.0)]
    assert parsed('"a ""x"",b","dir=1"') == [('a "x",b', None), ("dir=1", None)]
    assert parsed('5" disk,"a"b,"c') == [('5" disk', None), ('"a"b', None), ('"c', None)]
    names = ["a,b", 'say "x"', "c=1", "d"]
    assert [one.name for one in parsed(quote(names))] == names


def test_many_names_may_be_longer_than_any_path_together() -> None:
    names = [f"pairs_part_{at:05d}.jsonl" for at in range(300)]
    assert [one.name for one in parsed(",".join(names))] == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/b=0.5,c/d", "weights of some sources only"),
        ("a/b,a/b", "got a source twice in a/b, a/b"),
        ("a/b=0", "got weight 0 of a/b; wanted one above 0"),
        ("a/b=nan", "wanted one above 0"),
        ('"a,b"=much', "got weight much of a,b; wanted one above 0"),
    ],
)
def test_wrong_weights_are_refused(text: str, words: str) -> None:
    with pytest.raises(DataError, match=r"data\.corpus") as caught:
        parsed(text)
    assert words in str(caught.value)


def test_weights_are_for_the_corpus_only() -> None:
    with pytest.raises(DataError, match=r"data.preferences: a/b=2 has a weight; wanted none"):
        fields(config(preferences="a/b=2"))


@pytest.mark.parametrize(
    ("name", "is_local"),
    [
        ("owner/name", False),
        ("owner/name@v1.0", False),
        ("data/train.jsonl", True),
        ("data/*.parquet", True),
        ("./owner/name", True),
        ("/owner/name", True),
        ("name", True),
        ("a/b/c", True),
    ],
)
def test_hub_ids_are_told_from_files(name: str, is_local: bool) -> None:
    assert NamedSource(name).is_local is is_local
    assert uses_hub(config(preferences=name)) is not is_local


def test_files_named_test_are_held_out_in_folders_and_globs(tmp_path: Path) -> None:
    for name in ("train-0.jsonl", "more/train-1.jsonl", "test-0.jsonl", "dev.jsonl", "README.md"):
        write(tmp_path / "a" / name, pairs(0, 3))
    write(tmp_path / "latest.jsonl", pairs(9, 3))
    assert labels(config(preferences=f"{tmp_path}/a,{tmp_path}/latest.jsonl")) == [
        ("more/train-1.jsonl", False),
        ("train-0.jsonl", False),
        ("latest.jsonl", False),
        ("dev.jsonl", True),
        ("test-0.jsonl", True),
    ]
    assert labels(config(preferences=f"{tmp_path}/a/t*.jsonl")) == [
        ("train-0.jsonl", False),
        ("test-0.jsonl", True),
    ]
    assert labels(config(preferences=f"{tmp_path}/a/test-0.jsonl")) == [("test-0.jsonl", False)]
    both = config(preferences=f"{tmp_path}/latest.jsonl", heldout_preferences=f"{tmp_path}/a/more")
    assert labels(both) == [("latest.jsonl", False), ("train-1.jsonl", True)]
    (tmp_path / "a" / "train-0.jsonl").unlink()
    with pytest.raises(DataError, match="got only files named test or validation"):
        check_source(config(preferences=f"{tmp_path}/a/t*.jsonl"), corpus=False)


def test_files_named_after_stages_go_to_their_own(tmp_path: Path) -> None:
    for name in ("train_sft", "train_prefs", "test_prefs", "test_gen"):
        write(tmp_path / "a" / f"{name}-00000-of-00001.jsonl", pairs(0, 3))
    found = found_files(config(preferences=f"{tmp_path}/a"))
    assert [(file.label[:11], file.heldout) for file in found] == [
        ("train_prefs", False),
        ("test_prefs-", True),
    ]
    assert "left out, since not named prefs" in found[1].notes[0]
    assert "train_sft-00000" in found[1].notes[0]


def test_a_saved_dataset_of_splits_is_a_folder_with_held_out_files(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    splits = {"train": Dataset.from_list(pairs(0, 9)), "test": Dataset.from_list(pairs(9, 3))}
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    build_datasets(config(preferences=f"{tmp_path}/saved"), 0, tmp_path / "out", inspected=False)
    assert read_rows(tmp_path / "out" / "preferences_train.jsonl") == pairs(0, 9)
    assert read_rows(tmp_path / "out" / "preferences_heldout.jsonl") == pairs(9, 3)


def test_a_missing_file_is_named_before_anything_is_read(tmp_path: Path) -> None:
    given = config(preferences=f"{tmp_path}/pairs.jsonl")
    with pytest.raises(DataError, match=r"pairs.jsonl for preferences: got nothing there; wanted"):
        check_source(given, corpus=False)


def test_a_broken_link_in_a_folder_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a" / "one.jsonl", pairs(0, 3))
    (tmp_path / "a" / "two.jsonl").symlink_to(tmp_path / "nowhere")
    given = config(preferences=f"{tmp_path}/a")
    assert [file.size > 0 for file in found_files(given)] == [True, False]
    with pytest.raises(DataError, match=r"two.jsonl cannot be read"):
        fingerprint(given)


def test_build_reads_several_files_and_reports_each(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", pairs(0, 30))
    other = write(tmp_path / "other.jsonl", [*pairs(20, 20), {"colour": "p"}])
    held = write(tmp_path / "held.jsonl", pairs(100, 5))
    given = config(preferences=f"{one},{other}", heldout_preferences=str(held))
    report = build_datasets(given, 0, tmp_path / "out")
    assert len(read_rows(tmp_path / "out" / "preferences_train.jsonl")) == 40
    assert read_rows(tmp_path / "out" / "preferences_heldout.jsonl") == pairs(100, 5)
    files = {file.label: file for each in report.collections for file in each.files}
    assert (files["one.jsonl"].read, files["one.jsonl"].kept) == (30, 30)
    assert files["other.jsonl"].dropped == {"duplicate": 10, "columns fit no accepted format": 1}
    assert files["other.jsonl"].source == str(other)
    assert files["held.jsonl"].heldout
    assert {"prompt": "p0"} in read_rows(tmp_path / "out" / "prompts_train.jsonl")


def test_fingerprint_covers_files_weights_and_what_they_are_for(tmp_path: Path) -> None:
    texts = write(tmp_path / "t.jsonl", [{"text": "t"}])
    more = write(tmp_path / "folder" / "more.jsonl", [{"text": "u"}])
    judged = write(tmp_path / "pairs.jsonl", pairs(0, 3))
    named = f"{texts},{more.parent}"
    seen = set()
    for given in (
        config(preferences=str(judged)),
        config(preferences=str(judged), corpus=named),
        config(preferences=str(judged), corpus=f"{texts}=1,{more.parent}=2"),
        config(preferences=str(judged), corpus=named, heldout_preferences=str(judged)),
    ):
        seen.add(fingerprint(given))
        assert fingerprint(given) == fingerprint(given)
    assert len(seen) == 4
    before = fingerprint(config(preferences=str(judged), corpus=named))
    (tmp_path / "moved").mkdir()
    moved = [path.rename(tmp_path / "moved" / path.name) for path in (texts, more.parent, judged)]
    given = config(preferences=str(moved[2]), corpus=f"{moved[0]},{moved[1]}")
    assert fingerprint(given) == before
    write(moved[1] / "third.jsonl", [{"text": "v"}])
    assert fingerprint(given) != before
