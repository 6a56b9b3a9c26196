"""Near duplicates and leaks in rows where both are known by hand."""

import json
from pathlib import Path

import pytest

from tasks.data.inspection import near as near_module
from tasks.data.inspection import sampling
from tasks.data.inspection.inspector import inspect_datasets
from tasks.data.inspection.records import Inspection, Leak
from tests.tasks.data.inspection.by_hand import Rows, changed, sentence, write


def near(found: Inspection) -> dict[str, int]:
    return {one.name: one.near_duplicates.rows for one in found.collections}


def leaks(found: Inspection) -> dict[tuple[str, str, str], tuple[int, int]]:
    return {(one.heldout, one.train, one.what): (one.exact, one.near) for one in found.leaks}


def test_near_duplicates_are_counted_once_for_each_row_that_repeats_another(
    tmp_path: Path,
) -> None:
    texts = [sentence(n) for n in range(20)]
    # Two rows repeat row 0 with one other word each, one repeats row 1: three rows.
    texts += [changed(texts[0], 5), changed(texts[0], 20), changed(texts[1])]
    # Half of its words are others: no near duplicate.
    texts.append(f"{' '.join(texts[2].split()[:15])} {sentence(99, 15)}")
    found = inspect_datasets(write(tmp_path, corpus_train=[{"text": one} for one in texts]))
    assert near(found) == {"corpus": 3, "demonstrations": 0, "preferences": 0, "prompts": 0}
    example = found.collections[0].near_duplicates.examples[0]
    assert {example.first, example.second} <= set(texts)
    # One other word of thirty: 25 triples of 31 are common. Two others: 22 of 34, too few.
    assert example.similarity == pytest.approx(25 / 31, abs=1e-3)
    assert not found.leaks


def test_one_long_prompt_with_two_answers_is_no_near_duplicate(tmp_path: Path) -> None:
    prompt = sentence(1, 100)
    rows: Rows = [{"prompt": prompt, "completion": sentence(n, 12)} for n in (2, 3)]
    rows += [{"prompt": sentence(4), "completion": sentence(n, 12)} for n in (5, 6)]
    rows += [
        {"prompt": sentence(7), "completion": one} for one in (sentence(8), changed(sentence(8)))
    ]
    found = inspect_datasets(write(tmp_path, demonstrations_train=rows))
    assert near(found)["demonstrations"] == 1  # the last one: one answer in two wordings


def test_rows_of_a_ranking_are_no_near_duplicates(tmp_path: Path) -> None:
    # The pairs of a ranking share prompt and answers; chosen and rejected may be alike.
    answers = [sentence(1), changed(sentence(1)), sentence(2)]
    rows = [
        {"prompt": sentence(0), "chosen": answers[one], "rejected": answers[other]}
        for one, other in ((0, 1), (0, 2), (1, 2))
    ]
    rows.append({"prompt": changed(sentence(0)), "chosen": answers[0], "rejected": sentence(3)})
    found = inspect_datasets(write(tmp_path, preferences_train=rows))
    assert near(found)["preferences"] == 1  # another prompt with nearly the same words


def test_what_a_template_repeats_makes_no_rows_alike(tmp_path: Path) -> None:
    template = f"{sentence(0, 60)} the task is "
    rows = [{"prompt": f"{template}{sentence(n, 12)}"} for n in range(1, 151)]
    rows.append({"prompt": rows[0]["prompt"].upper() + " please"})
    found = inspect_datasets(write(tmp_path, prompts_train=rows))
    assert near(found)["prompts"] == 1
    # Of 61 + 12 triples and more, those of the template stand in all rows.
    assert found.collections[3].template_share > 0.7


def test_leaks_are_found_across_all_collections(tmp_path: Path) -> None:
    found = inspect_datasets(
        write(
            tmp_path,
            corpus_train=[{"text": f"Q {sentence(1)} {sentence(2)}"}, {"text": sentence(50)}],
            demonstrations_train=[
                {"prompt": sentence(10), "completion": sentence(11)},
                {"prompt": sentence(12), "completion": sentence(13)},
            ],
            preferences_train=[
                {"prompt": sentence(20), "chosen": sentence(21), "rejected": sentence(22)}
            ],
            preferences_heldout=[
                # In the corpus, in other case and spaces; in the demonstrations, nearly.
                {
                    "prompt": f"q {sentence(1)}",
                    "chosen": f"  {sentence(2).upper()}",
                    "rejected": "x",
                },
                {"prompt": sentence(10), "chosen": "y", "rejected": f" {changed(sentence(11))}"},
                # The pair of the training rows, with another answer beside it.
                {"prompt": sentence(20), "chosen": "z", "rejected": sentence(21)},
            ],
            prompts_heldout=[
                {"prompt": sentence(10).title()},
                {"prompt": changed(sentence(12))},
                {"prompt": sentence(30)},
            ],
        )
    )
    assert leaks(found) == {
        ("preferences", "corpus", "text"): (1, 0),
        ("preferences", "demonstrations", "text"): (0, 1),
        ("preferences", "preferences", "text"): (1, 0),
        ("preferences", "demonstrations", "prompt"): (1, 0),
        ("preferences", "preferences", "prompt"): (1, 0),
        ("prompts", "demonstrations", "prompt"): (1, 1),
    }
    by_key = {(one.heldout, one.train, one.what): one for one in found.leaks}
    leak: Leak = by_key["prompts", "demonstrations", "prompt"]
    assert leak.rows == 3
    assert {one.first for one in leak.examples} == {sentence(10), changed(sentence(12))}
    assert found.metrics()["data/leaked_prompts_rows"] == 2.0
    assert found.metrics()["data/leaked_preferences_rows"] == 1.0


def test_messages_are_compared_without_their_system_message(tmp_path: Path) -> None:
    def row(system: str, text: str) -> dict[str, object]:
        said = [("system", system), ("user", text)]
        return {"prompt": [{"role": role, "content": content} for role, content in said]}

    found = inspect_datasets(
        write(
            tmp_path,
            prompts_train=[row(sentence(1, 200), sentence(n)) for n in (2, 3)],
            prompts_heldout=[row("another one", sentence(2)), row(sentence(1, 200), sentence(4))],
        )
    )
    assert near(found)["prompts"] == 0
    assert leaks(found) == {("prompts", "prompts", "prompt"): (1, 0)}


def test_large_files_are_looked_at_in_a_sample_of_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": sentence(n)} for n in range(400)]
    folder = write(tmp_path, corpus_train=rows, corpus_heldout=rows[:4])
    monkeypatch.setattr(sampling, "MOST_ROWS", 100)
    corpus = inspect_datasets(folder).collections[0]
    assert corpus.heldout == 4
    assert 70 < corpus.train < 130  # a quarter of the rows, by a hash of each
    assert corpus.share == pytest.approx((corpus.train + 4) / (corpus.train * 4 + 4), rel=1e-6)
    # The same rows in another order give the same sample.
    write(tmp_path / "turned", corpus_train=rows[::-1], corpus_heldout=rows[:4])
    turned = inspect_datasets(tmp_path / "turned").collections[0]
    assert turned.train == corpus.train
    assert turned.columns == corpus.columns


def test_what_is_too_much_to_compare_is_judged_by_sketches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 40 texts of 100 words, each twice with one other word: 95 of 101 triples, Jaccard 0.94.
    texts = [sentence(n, 100) for n in range(40)]
    rows = [{"text": one} for one in [*texts, *(changed(one) for one in texts)]]
    folder = write(tmp_path, corpus_train=rows)
    assert inspect_datasets(folder).unchecked == 0
    monkeypatch.setattr(near_module, "MOST_CHECKED", 10)
    found = inspect_datasets(folder)
    assert near(found)["corpus"] == 40
    assert found.unchecked == 30


def test_rows_are_found_again_where_they_begin(tmp_path: Path) -> None:
    rows = [{"text": f"é中{n}"} for n in range(50)]
    path = write(tmp_path, corpus_train=rows) / "corpus_train.jsonl"
    placed = list(sampling.placed_rows(path))
    assert [one.row for one in placed] == rows
    wanted = [placed[n].offset for n in (40, 3)]
    assert list(sampling.rows_at(path, wanted)) == [rows[40], rows[3]]
    smallest = sampling.SmallSample(5)
    for one in placed:
        smallest.add(one)
    by_hash = sorted(placed, key=lambda one: one.position)[:5]
    assert smallest.offsets() == sorted(one.offset for one in by_hash)
    assert json.dumps(rows[0])  # the file holds what was written
