"""The data of `foundations`: embedded captions, and files as people have them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from models.rows import read_rows
from tasks.data.foundations.build import TASKS, build_foundations, write_choices
from tasks.data.foundations.config import FoundationsDataConfig
from tasks.data.foundations.folders import (
    files_of,
    fingerprint,
    read_corpus,
    read_opinions,
    read_sentence_pairs,
    read_translation,
)

SMALL = {"captions": 300, "task_rows": 200, "heldout_rows": 100}
HEADER = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def folders(root: Path) -> FoundationsDataConfig:
    """Three folders of files, with 12 captions to train on."""
    captions = [f"A man is walking along street number {at}" for at in range(12)]
    write(root / "t" / "train.fr.gz", "".join(f"{one} fr\n" for one in captions))
    write(root / "t" / "train.en.gz", "".join(f"{one}\n" for one in captions))
    held = [f"A dog is running over field number {at}" for at in range(6)]
    write(root / "t" / "test.en", "".join(f"{one}\n" for one in held))
    write(root / "t" / "test.fr", "".join(f"{one} fr\n" for one in held))
    rows = ["1\tA man walks\tA man moves\t4.5\tENTAILMENT", "2\tA\tB\t1.5\tNEUTRAL"]
    write(root / "p" / "SICK_train.txt", "\r\n".join([HEADER, *rows]))
    write(root / "p" / "SICK_test.txt", "\r\n".join([HEADER, "9\tX\tY\t2.0\tCONTRADICTION"]))
    pairs = [{"prompt": "the", "chosen": " good film", "rejected": " bad film"}]
    write(root / "o" / "pairs_train.jsonl", "".join(json.dumps(one) + "\n" for one in pairs))
    write(root / "o" / "pairs_test.jsonl", json.dumps({"text": "so so", "label": 0}) + "\n")
    texts = ["a long review", "so so", held[0]]
    write(root / "o" / "pretrain.jsonl", "".join(json.dumps({"text": one}) + "\n" for one in texts))
    return FoundationsDataConfig(
        source="files",
        translation=str(root / "t"),
        sentence_pairs=str(root / "p"),
        opinions=str(root / "o"),
    )


def read_all(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.stem: read_rows(path) for path in folder.glob("*.jsonl")}


def test_captions_are_the_same_for_the_same_seed_and_keep_the_sides_apart(tmp_path: Path) -> None:
    config = FoundationsDataConfig.model_validate(SMALL)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        build_foundations(config, seed, tmp_path / name)
    first, again, other = (read_all(tmp_path / name) for name in "abc")
    assert first == again
    assert first != other
    assert len(first["translation_train"]) == 300
    held = {row["text"] for row in first["corpus_heldout"]}
    held |= {text for row in first["polarity_heldout"] for text in row["texts"]}
    assert not held & {row["text"] for row in first["corpus_train"]}
    for task in TASKS:
        known = {str(row["texts"]) for row in first[f"{task}_heldout"]}
        assert known
        assert not known & {str(row["texts"]) for row in first[f"{task}_train"]}


def test_embedded_tasks_have_all_labels_and_texts_of_their_kind(tmp_path: Path) -> None:
    build_foundations(FoundationsDataConfig.model_validate(SMALL), 0, tmp_path)
    rows = read_all(tmp_path)
    assert {row["label"] for row in rows["entailment_train"]} == {0, 1, 2}
    assert {row["label"] for row in rows["polarity_train"]} == {0, 1}
    assert {row["label"] for row in rows["similarity_train"]} == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert all(len(row["texts"]) == 5 for row in rows["choice_train"])
    long = [row for row in rows["translation_train"] if " pendant que " in row["target"]]
    assert 0.3 < len(long) / 300 < 0.5
    denied = [r for r in rows["entailment_train"] if r["texts"][1].startswith("There is no")]
    assert {row["label"] for row in denied} == {2}


def test_files_are_found_by_name_and_held_out_texts_leave_the_corpus(tmp_path: Path) -> None:
    config = folders(tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    metrics = build_foundations(config, 0, out)
    rows = read_all(out)
    # 12 captions and three texts, of which one is a held-out opinion and one a held-out caption
    assert metrics["foundations_data/corpus_train"] == 13
    assert {row["source"] for row in rows["corpus_train"]} == {"captions", "opinions"}
    assert rows["translation_train"][0]["target"] == rows["translation_train"][0]["source"] + " fr"
    assert {"texts": ["A man walks", "A man moves"], "label": 0} in rows["entailment_train"]
    assert rows["similarity_heldout"] == [{"texts": ["X", "Y"], "label": 2.0}]
    assert {(row["texts"][0], row["label"]) for row in rows["polarity_train"]} == {
        ("the good film", 1),
        ("the bad film", 0),
    }
    assert len(rows["vocabulary"]) == 13 + 12


def test_without_a_file_of_texts_the_opinions_are_a_source_all_the_same(tmp_path: Path) -> None:
    config = folders(tmp_path / "in")
    (tmp_path / "in" / "o" / "pretrain.jsonl").unlink()
    build_foundations(config, 0, tmp_path)
    corpus = read_rows(tmp_path / "corpus_train.jsonl")
    opinions = {row["text"] for row in corpus if row["source"] == "opinions"}
    assert opinions == {"the good film", "the bad film"}


def test_the_fingerprint_changes_with_a_file(tmp_path: Path) -> None:
    config = folders(tmp_path)
    before = fingerprint(config)
    assert fingerprint(config) == before
    with (tmp_path / "t" / "test.en").open("a", encoding="utf-8") as file:
        file.write("more\n")
    assert fingerprint(config) != before


def test_choices_hold_the_true_end_once() -> None:
    import random

    captions = [f"one two three four five end{at} last" for at in range(20)]
    rows = write_choices(captions, 10, random.Random(0))
    assert len(rows) == 10
    for row in rows:
        beginning, *ends = row["texts"]
        assert f"{beginning} {ends[row['label']]}" in captions
        assert len(set(ends)) == 4
    assert len({row["label"] for row in rows}) > 1


def test_parallel_files_of_other_lengths_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "train.en", "a\n\nb\n")
    other = write(tmp_path / "train.de", "x\ny\n")
    with pytest.raises(DataError, match=r"train\.en has 3 lines and train\.de 2"):
        read_translation([one, other], train=True)


def test_an_empty_line_drops_its_pair_alone(tmp_path: Path) -> None:
    one = write(tmp_path / "train.en", "a\n\nc\n")
    other = write(tmp_path / "train.de", "x\ny\nz\n")
    assert read_translation([one, other], train=True) == [
        {"source": "a", "target": "x"},
        {"source": "c", "target": "z"},
    ]


def test_a_score_of_0_counts_and_one_that_is_no_number_is_named(tmp_path: Path) -> None:
    header = "sentence1,sentence2,score,label\n"
    table = write(tmp_path / "train.csv", f"{header}a,b,0,neutral\nc,d,n/a,neutral\n")
    _, similarity = read_sentence_pairs([table], train=True)
    assert similarity == [{"texts": ["a", "b"], "label": 0.0}]
    lines = write(
        tmp_path / "train.jsonl",
        '{"sentence1": "a", "sentence2": "b", "score": 0.0, "label": "neutral"}\n',
    )
    assert read_sentence_pairs([lines], train=True)[1] == similarity
    table = write(tmp_path / "train.csv", f"{header}a,b,1,neutral\nc,d,high,neutral\n")
    with pytest.raises(DataError, match=r"train\.csv, row 2: the score is not a number; repair"):
        read_sentence_pairs([table], train=True)


def test_messages_in_the_place_of_opinions_are_refused(tmp_path: Path) -> None:
    said = [{"role": "assistant", "content": "good"}]
    pairs = [{"chosen": "a", "rejected": "b"}, {"prompt": "p", "chosen": said, "rejected": "bad"}]
    path = write(tmp_path / "train.jsonl", "".join(json.dumps(one) + "\n" for one in pairs))
    with pytest.raises(DataError, match=r"train\.jsonl, row 2: .*chosen is a list, not text"):
        read_opinions([path], train=True)


def test_missing_languages_columns_and_folders_are_named(tmp_path: Path) -> None:
    one = write(tmp_path / "train.en", "a\n")
    with pytest.raises(DataError, match=r"wanted two files such as train\.en"):
        read_translation([one], train=True)
    with pytest.raises(DataError, match="wanted a file with test in its name"):
        read_translation([one], train=False)
    table = write(tmp_path / "train.csv", "a,b\n1,2\n")
    with pytest.raises(DataError, match="got columns"):
        read_sentence_pairs([table], train=True)
    with pytest.raises(DataError, match="wanted text and label"):
        read_opinions([write(tmp_path / "train.jsonl", '{"text": "a", "label": 7}\n')], train=True)
    config = FoundationsDataConfig(
        source="files", translation=str(tmp_path / "no"), sentence_pairs="x", opinions="y"
    )
    with pytest.raises(DataError, match=r"data\.translation: .* is no folder"):
        files_of(config)


def test_folders_and_source_must_fit_together() -> None:
    with pytest.raises(ValueError, match=r"set data\.sentence_pairs=DIR and data\.opinions=DIR"):
        FoundationsDataConfig(source="files", translation="a")
    with pytest.raises(ValueError, match=r"set data\.source=files"):
        FoundationsDataConfig(opinions="a")


def test_no_training_choice_is_made_from_a_held_out_caption(tmp_path: Path) -> None:
    config = folders(tmp_path / "in")
    held = [f"A dog is running over field number {at}" for at in range(6)]
    captions = [f"A man is walking along street number {at}" for at in range(12)] + held[:3]
    write(tmp_path / "in" / "t" / "train.en.gz", "".join(f"{one}\n" for one in captions))
    write(tmp_path / "in" / "t" / "train.fr.gz", "".join(f"{one} fr\n" for one in captions))
    build_foundations(config, 0, tmp_path)
    rows = read_rows(tmp_path / "choice_train.jsonl")
    made = {f"{row['texts'][0]} {row['texts'][1 + row['label']]}" for row in rows}
    assert made
    assert not made & set(held)


def test_held_out_opinions_leave_the_corpus_however_they_are_spaced(tmp_path: Path) -> None:
    config = folders(tmp_path / "in")
    held = [{"text": one, "label": 0} for one in (" so so", "half \ud83d a sign")]
    texts = [{"text": one} for one in ("a long review", "so so ", "half \ud83d a sign")]
    for name, rows in (("pairs_test", held), ("pretrain", texts)):
        lines = "".join(json.dumps(one) + "\n" for one in rows)
        write(tmp_path / "in" / "o" / f"{name}.jsonl", lines)
    build_foundations(config, 0, tmp_path)
    corpus = read_rows(tmp_path / "corpus_train.jsonl")
    assert [row["text"] for row in corpus if row["source"] == "opinions"] == ["a long review"]
    heldout = [row["texts"][0] for row in read_rows(tmp_path / "polarity_heldout.jsonl")]
    assert sorted(heldout) == ["half \ufffd a sign", "so so"]


def test_columns_are_known_in_any_letter_case(tmp_path: Path) -> None:
    row = {"sentence_A": "a", "sentence_B": "b", "relatedness_score": 4.5,
           "entailment_judgment": "NEUTRAL"}  # fmt: skip
    path = write(tmp_path / "train.jsonl", json.dumps(row))
    assert read_sentence_pairs([path], train=True) == (
        [{"texts": ["a", "b"], "label": 1}],
        [{"texts": ["a", "b"], "label": 4.5}],
    )


@pytest.mark.parametrize("name", ["test.csv", "validation-00000-of-00001.csv", "dev.csv"])
def test_held_out_files_are_known_by_the_names_that_they_usually_have(
    tmp_path: Path, name: str
) -> None:
    training = write(tmp_path / "training.csv", "text,label\ngood,1\n")
    heldout = write(tmp_path / name, "text,label\nbad,0\n")
    both = [training, heldout]
    assert read_opinions(both, train=True) == [{"texts": ["good"], "label": 1}]
    assert read_opinions(both, train=False) == [{"texts": ["bad"], "label": 0}]


def test_two_files_of_one_language_are_refused_and_not_paired_by_chance(tmp_path: Path) -> None:
    names = ("test_2016.en", "test_2017.en", "test_2016.fr")
    files = [write(tmp_path / name, "a\nb\n") for name in names]
    with pytest.raises(DataError, match=r"test_2017\.en.*wanted two files such as train\.en"):
        read_translation(files, train=False)


def test_a_file_of_texts_without_texts_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "pretrain.jsonl", '{"content": "a"}\n')
    with pytest.raises(DataError, match=r"pretrain\.jsonl: got no texts; wanted a column text"):
        read_corpus([path])


def test_labels_of_a_table_of_floats_count_and_a_wrong_cell_is_named_by_its_row(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "train.csv", "text,label\ngood,1.0\nbad,0.0\n")
    assert [row["label"] for row in read_opinions([path], train=True)] == [1, 0]
    path = write(tmp_path / "train.csv", "text,label\ngood,1\nbad,2\n")
    with pytest.raises(DataError, match=r"row 2: .* and label '2'; wanted text and label"):
        read_opinions([path], train=True)
    path = write(tmp_path / "train.csv", "premise,hypothesis,score\na,b,1\na,,1\n")
    with pytest.raises(DataError, match=r"row 2: got columns .* without two sentences"):
        read_sentence_pairs([path], train=True)
