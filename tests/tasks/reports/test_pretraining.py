"""The page of a pretrained model."""

from pathlib import Path
from typing import Any

from models.rows import write_json, write_rows
from tasks.reports.pretraining import pretraining_page
from tasks.results.curves import append_history
from tasks.run.spec import Page, Result
from tests.tasks.test_escaping import ATTACKS, kinds

MASKED = {
    "masked_accuracy": 0.5,
    "masked_accuracy_unigram": 0.07,
    "masked_loss": 2.0,
    "masked_loss_unigram": 6.0,
    "next_sentence_accuracy": 0.8,
    "next_sentence_majority": 0.51,
    "heldout_loss": 2.4,
}


def page(folder: Path, metrics: dict[str, float], *samples: Any) -> Page:
    write_rows(folder / "samples.jsonl", samples)
    named = {f"pretrain/{name}": value for name, value in metrics.items()}
    return pretraining_page(Result(folder=folder, metrics=named, parameters={}, inputs={}), folder)


def masked(text: str) -> dict[str, Any]:
    top = [{"token": text, "probability": 0.9}, {"token": " dog", "probability": 0.05}]
    answers = [{"right": text, "seen": "[MASK]", "top": top}]
    return {"text": text, "answers": answers, "is_next": True, "is_next_probability": 0.75}


def test_page_shows_numbers_beside_their_baselines_and_answers(tmp_path: Path) -> None:
    append_history(tmp_path, {"pretrain/loss": 3.0}, 1)
    shown = page(tmp_path, MASKED, masked(" cat"))
    assert "| masked tokens restored | 0.500 | 0.070 |" in shown.markdown
    assert "| next sentences told from others | 0.800 | 0.510 |" in shown.markdown
    assert "loss per token" not in shown.markdown  # of all tokens, which is another objective's
    assert "| cat | cat: cat (0.90), dog (0.05) | yes (0.75) |" in shown.markdown
    [picture] = shown.pictures
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_page_shows_what_was_restored(tmp_path: Path) -> None:
    metrics = {"heldout_loss": 1.0, "heldout_loss_unigram": 5.5}
    shown = page(
        tmp_path, metrics, {"noisy": "a dog", "document": "a dog runs", "restored": "a dog ran"}
    )
    assert "| loss per token (nats) | 1.000 | 5.500 |" in shown.markdown
    assert "| a dog | a dog runs | a dog ran |" in shown.markdown
    assert list(shown.pictures) == []


def test_texts_of_strangers_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    harmless = page(tmp_path, MASKED, masked("harmless")).markdown
    for attack in ATTACKS:
        assert kinds(page(tmp_path, MASKED, masked(attack)).markdown) == kinds(harmless)


def test_page_shows_scale_sources_and_spikes(tmp_path: Path) -> None:
    metrics = {"parameters": 1e6, "tokens": 2e7, "tokens_per_parameter": 20.0}
    metrics |= {"tokens_per_second": 12345.0, "model_flops_utilisation": 0.314}
    metrics |= {"source_tokens/captions": 1.5e7, "source_tokens/reviews": 5e6}
    metrics |= {"source_epochs/captions": 2.5, "source_epochs/reviews": 0.5, "bits_per_byte": 1.25}
    spike = {"step": 33, "loss": 9.0, "median": 2.0, "bound": 3.0, "skipped": [33, 34]}
    write_json(tmp_path / "spikes.json", [spike | {"resumed_from": 30}])
    named = {f"pretrain/{name}": value for name, value in metrics.items()}
    result = Result(folder=tmp_path, metrics=named, parameters={}, inputs={})
    text = pretraining_page(result, tmp_path).markdown
    assert "| tokens per parameter (Chinchilla: about 20) | 20 |" in text
    assert "| tokens per second | 12,345 |" in text
    assert "| share of the device's matrix multiplication used | 31.4% |" in text
    assert "| captions | 15,000,000 | 75.0% | 2.5 |" in text
    assert "| 33 | 9 | 2 | 30 | 2 |" in text
    assert "baseline" not in text  # nothing was restored
