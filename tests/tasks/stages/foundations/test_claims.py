"""Which claims hold: by single numbers, and by rows that two models answered."""

from pathlib import Path

import pytest

from models.rows import write_rows
from tasks.stages.foundations.checking import check_claims, count_verdicts
from tasks.stages.foundations.claims import claims


def predictions(folder: Path, right: int, of: int = 100) -> Path:
    folder.mkdir()
    rows = [{"label": 1, "prediction": int(at < right)} for at in range(of)]
    write_rows(folder / "predictions.jsonl", rows)
    return folder


def test_a_lower_number_is_better_where_the_claim_says_so() -> None:
    bits = {"rnn": 1.2, "lstm": 1.1, "gpt2": 1.3}
    metrics = {name: {"pretrain/bits_per_byte": value} for name, value in bits.items()}
    found = {one["claim"]: one for one in check_claims(metrics, {})}
    assert set(found) == {"Gates beat a plain recurrence", "Attention beats recurrence (GPT-2)"}
    gates = found["Gates beat a plain recurrence"]
    assert gates["difference"].mean == pytest.approx(0.1)  # 1.2 - 1.1, positive as claimed
    assert gates["verdict"] == "held"
    assert found["Attention beats recurrence (GPT-2)"]["verdict"] == "did not hold"


def test_a_difference_of_next_to_nothing_is_open() -> None:
    metrics = {"lstm": {"pretrain/bits_per_byte": 1.1}, "rnn": {"pretrain/bits_per_byte": 1.1005}}
    (found,) = check_claims(metrics, {})
    assert found["verdict"] == "open"


def test_a_claim_may_name_another_stages_metric_or_a_baseline() -> None:
    metrics = {
        "ngram": {"ngram/bits_per_byte": 1.5},
        "feedforward": {"pretrain/bits_per_byte": 1.4},
        "bert": {"pretrain/masked_accuracy": 0.3, "pretrain/masked_accuracy_unigram": 0.1},
    }
    found = check_claims(metrics, {})
    assert [(one["first"], one["second"], one["verdict"]) for one in found] == [
        (1.4, 1.5, "held"),
        (0.3, 0.1, "held"),
    ]


@pytest.mark.parametrize(
    ("pretrained", "random", "verdict"),
    [(80, 50, "held"), (51, 50, "open"), (40, 60, "did not hold")],
)
def test_rows_of_both_models_give_the_interval(
    tmp_path: Path, pretrained: int, random: int, verdict: str
) -> None:
    folders = {
        "bert-entailment": predictions(tmp_path / "a", pretrained),
        "bert-entailment-random": predictions(tmp_path / "b", random),
    }
    metrics = {
        "bert-entailment": {"understand/accuracy": pretrained / 100},
        "bert-entailment-random": {"understand/accuracy": random / 100},
    }
    (found,) = check_claims(metrics, folders)
    assert found["claim"] == "Pretraining helps BERT: entailment"
    assert found["difference"].mean == pytest.approx((pretrained - random) / 100)
    assert found["difference"].low <= found["difference"].mean <= found["difference"].high
    assert found["verdict"] == verdict


def test_a_margin_allows_to_be_a_little_worse() -> None:
    def verdict(accuracy: float) -> str:
        own = {"understand/accuracy": accuracy, "understand/baseline": 0.80}
        return str(check_claims({"bert-polarity": own}, {})[0]["verdict"])

    assert verdict(0.785) == "held"
    assert verdict(0.775) == "did not hold"


def test_verdicts_are_counted_and_every_claim_has_its_source() -> None:
    rows = [{"verdict": "held"}, {"verdict": "held"}, {"verdict": "open"}]
    assert count_verdicts(rows) == {
        "foundations/claims_held": 2.0,
        "foundations/claims_open": 1.0,
        "foundations/claims_not_held": 0.0,
    }
    assert all(one.source and one.text for one in claims())
    assert len({one.text for one in claims()}) == len(claims())


def test_translations_of_both_models_give_the_interval(tmp_path: Path) -> None:
    source = " ".join(["word"] * 16)
    rows = [{"source": source, "target": f"one two three four five {at}"} for at in range(30)]
    folders = {}
    for name, wrong in (("rnnsearch", 3), ("rnn_encoder_decoder", 15)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        made = [
            {**row, "translation": "one six" if at < wrong else row["target"]}
            for at, row in enumerate(rows)
        ]
        write_rows(folders[name] / "samples.jsonl", made)
    metrics = {name: {"translate/bleu_long": value} for name, value in
               (("rnnsearch", 90.0), ("rnn_encoder_decoder", 50.0))}  # fmt: skip
    (found,) = check_claims(metrics, folders)
    assert found["verdict"] == "held"
    assert 0 < found["difference"].low < found["difference"].mean < found["difference"].high


def test_a_tie_is_open(tmp_path: Path) -> None:
    folders = {
        "gpt2-choice": predictions(tmp_path / "a", 50),
        "gpt2-choice-random": predictions(tmp_path / "b", 50),
    }
    metrics = {name: {"understand/accuracy": 0.5} for name in folders}
    (found,) = check_claims(metrics, folders)
    assert (found["difference"].mean, found["verdict"]) == (0.0, "open")


def test_correlations_are_compared_on_the_same_rows(tmp_path: Path) -> None:
    folders = {}
    for name, error in (("bert-similarity", 0.1), ("bert-similarity-random", 5.0)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        rows = [
            {"label": float(at % 5), "prediction": at % 5 + error * (-1) ** (at // 5)}
            for at in range(100)
        ]
        write_rows(folders[name] / "predictions.jsonl", rows)
    metrics = {name: {"understand/correlation": 0.0} for name in folders}
    (found,) = check_claims(metrics, folders)
    # var(label) = 2, so the correlations are sqrt(2 / (2 + error**2)): 0.9975 and 0.2722
    assert found["difference"].mean == pytest.approx(0.9975 - 0.2722, abs=1e-4)
    assert found["difference"].low > 0.5
    assert found["verdict"] == "held"


def test_a_constant_prediction_counts_as_a_correlation_of_zero(tmp_path: Path) -> None:
    folders = {}
    for name, of_label in (("bert-similarity", 1.0), ("bert-similarity-random", 0.0)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        rows = [{"label": at % 5, "prediction": of_label * (at % 5)} for at in range(100)]
        write_rows(folders[name] / "predictions.jsonl", rows)
    metrics = {name: {"understand/correlation": 0.0} for name in folders}
    (found,) = check_claims(metrics, folders)
    assert found["difference"].mean == pytest.approx(1.0)
    assert found["verdict"] == "held"


def test_examples_in_the_prompt_are_compared_on_the_same_questions(tmp_path: Path) -> None:
    rows = [
        {"shots": shots, "label": 1, "prediction": int(at < right)}
        for shots, right in (("zero", 20), ("one", 50), ("few", 90))
        for at in range(100)
    ]
    write_rows(tmp_path / "answers.jsonl", rows)
    metrics = {"in_context/accuracy_zero": 0.2, "in_context/accuracy_few": 0.9}
    (found,) = check_claims({"in-context-polarity": metrics}, {"in-context-polarity": tmp_path})
    assert found["difference"].mean == pytest.approx(0.7)
    assert 0.6 < found["difference"].low < found["difference"].high < 0.8
    assert found["verdict"] == "held"
