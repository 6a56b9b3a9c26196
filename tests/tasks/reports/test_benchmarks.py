"""Pages of benchmarks: tables of what the stages publish."""

import json
from pathlib import Path
from typing import Any

from tasks.reports.benchmarks import lm_eval_page, multiple_choice_page
from tasks.run.spec import Result

SETTINGS = {"shots": 2, "prompt": "plain", "delimiter": " "}


def interval(mean: float, low: float | None, high: float | None) -> dict[str, float | None]:
    return {"mean": mean, "low": low, "high": high}


def model(accuracy: float, **more: Any) -> dict[str, Any]:
    share = interval(accuracy, accuracy - 0.1, accuracy + 0.1)
    return {
        "measures": {"accuracy": share, "accuracy_norm": share},
        "gains": {},
        "subjects": {},
        "chance": 0.25,
        "perplexity": 12.3456,
        "cut_contexts": 3,
    } | more


def result(folder: Path, results: Any, **parameters: Any) -> Result:
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return Result(folder=folder, metrics={}, parameters=parameters, inputs={})


def test_multiple_choice_page_compares_models_and_subjects(tmp_path: Path) -> None:
    subjects = {"law | order": {"accuracy": interval(0.5, 0.4, 0.6)}}
    models = {
        "sft": model(0.4, subjects=subjects),
        "ppo": model(
            0.5,
            subjects=subjects,
            gains={
                "accuracy": interval(0.1, 0.02, 0.18),
                "accuracy_norm": interval(0.1, None, None),
            },
        ),
    }
    results = {"questions": "questions.jsonl", "rows": 24, "models": models}
    page = multiple_choice_page(result(tmp_path, results, multiple_choice=SETTINGS), tmp_path)
    lines = page.markdown.splitlines()
    assert lines[0] == "## questions.jsonl: 24 questions, 2 examples shown, plain prompts"
    assert lines[2] == "Accuracy with 95% Wilson intervals; guessing gives 0.250."
    assert "| sft | 0.400 [0.300, 0.500] | 0.400 [0.300, 0.500] | 12.35 | 3 |" in lines
    assert (
        "ppo less sft, paired by question: accuracy +0.100 [+0.020, +0.180], "
        "accuracy by likelihood per byte +0.100 [no interval]." in lines
    )
    assert "| subject (accuracy) | sft | ppo |" in lines
    assert "| law \\| order | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] |" in lines


def test_multiple_choice_page_of_one_model_on_a_cloze(tmp_path: Path) -> None:
    share = interval(0.4, 0.3, 0.5)
    cloze = model(0.4, chance=None, measures={"exact_match": share, "last_word": share})
    results = {"questions": "cloze.jsonl", "rows": 3, "models": {"sft": cloze}}
    text = multiple_choice_page(
        result(tmp_path, results, multiple_choice=SETTINGS), tmp_path
    ).markdown
    assert "| model | whole completion | last word | perplexity of the right answer |" in text
    assert "Accuracy with 95% Wilson intervals." in text
    assert "less" not in text
    assert "subject" not in text


def test_lm_eval_page_has_a_row_per_task_and_metric(tmp_path: Path) -> None:
    numbers = {
        "alias": "toy", "acc,none": 0.25, "acc_stderr,none": 0.05, "exact_match,strict": 1,
        "exact_match_stderr,strict": "N/A", "sample_len": 4,
    }  # fmt: skip
    results = {
        "results": {"toy": numbers},
        "n-shot": {"toy": 0},
        "n-samples": {"toy": {"original": 9, "effective": 4}},
    }
    used = {"label": "sft", "version": "0.4.13"}
    page = lm_eval_page(result(tmp_path, results, lm_eval=used), tmp_path)
    assert page.title == "sft on published benchmarks, lm-evaluation-harness 0.4.13"
    assert page.markdown.splitlines()[4:] == [
        "| toy | 0 | 4 | acc | 0.2500 | 0.0500 |",
        "| toy | 0 | 4 | exact_match (strict) | 1.0000 |  |",
    ]
