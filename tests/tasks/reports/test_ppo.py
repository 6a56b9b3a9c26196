"""PPO's page, of a training that has ended and of one that has not."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints import SEAL_NAME
from models.rows import write_rows
from tasks.reports.ppo import ppo_page
from tasks.results.curves import append_history
from tasks.run.spec import Page, Result


def samples(*iterations: int) -> list[dict[str, Any]]:
    return [
        {"iteration": one, "prompt": "Two plus two?", "completion": f"says {one}"}
        for one in iterations
    ]


def checkpoint(folder: Path, iteration: int, *sampled: int, sealed: bool = True) -> None:
    made = folder / "checkpoints" / f"checkpoint-{iteration}"
    made.mkdir(parents=True)
    (made / "session.json").write_text(json.dumps({"samples": samples(*sampled)}))
    if sealed:
        (made / SEAL_NAME).write_text("{}")


def page(folder: Path, ppo: dict[str, Any] | None = None, **metrics: float) -> Page:
    (folder / "plots").mkdir(exist_ok=True)
    parameters = {"ppo": {"iterations": 40} | (ppo or {})}
    result = Result(folder=folder, metrics=metrics, parameters=parameters, inputs={})
    return ppo_page(result, folder / "plots")


def test_page_of_a_training_shows_the_last_sealed_checkpoint(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5, 0, 5)
    checkpoint(tmp_path, 10, 0, 5, 10)
    checkpoint(tmp_path, 15, 0, 5, 10, 15, sealed=False)
    for step in (1, 2):
        append_history(tmp_path, {"ppo/objective/score": 0.5 * step}, step)
    shown = page(tmp_path)
    assert "The last checkpoint is iteration 10 of 40." in shown.markdown
    assert "| Two plus two? | says 0 | says 5 | says 10 |" in shown.markdown
    (picture,) = shown.pictures
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_page_of_a_training_before_its_first_checkpoint(tmp_path: Path) -> None:
    shown = page(tmp_path)
    assert "samples are shown from the first checkpoint on" in shown.markdown
    assert list(shown.pictures) == []


def test_page_names_what_stands_in_the_critics_place(tmp_path: Path) -> None:
    group = {"advantages": "rloo", "group_size": 4}
    shown = page(tmp_path, group).markdown
    assert shown.startswith("Advantages: RLOO, 4 completions per prompt, no critic.\n\n40 iter")
    write_rows(tmp_path / "samples.jsonl", samples(0, 40))
    shown = page(tmp_path, group, **{"ppo/iterations": 40.0}).markdown
    assert shown.startswith("Advantages: RLOO, 4 completions per prompt, no critic.\n\nNo alarm")


def test_page_of_a_result_shows_samples_alarms_and_curves(tmp_path: Path, drawn: list[Any]) -> None:
    write_rows(tmp_path / "samples.jsonl", samples(0, 40))
    for step in (1, 2):
        metrics = {"score": 0.5 * step, "kl_to_reference": 0.1, "completion_tokens": 9.0}
        append_history(
            tmp_path, {f"ppo/objective/{name}": one for name, one in metrics.items()}, step
        )
    shown = page(tmp_path, **{"ppo/iterations": 40.0})
    assert shown.markdown.startswith("No alarm in 40 of 40 iterations.")
    assert "| Two plus two? | says 0 | says 40 |" in shown.markdown
    titles = [axes.get_title(loc="left") for axes in drawn[-1].axes]
    assert titles == ["PPO: score by its reward model", "PPO: KL to the SFT model", "PPO: length"]
    assert drawn[-1].axes[0].lines[0].get_ydata().tolist() == [0.5, 1.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_curve_without_a_finite_number_says_so(
    tmp_path: Path, drawn: list[Any], value: float
) -> None:
    append_history(tmp_path, {"ppo/objective/score": value}, 1)
    page(tmp_path)
    assert [text.get_text() for text in drawn[-1].axes[0].texts] == ["no finite numbers"]
