"""PPO's page: whether training stayed healthy, and the same prompts through the training.

While PPO trains, its page shows what is known so far: the curves, and the watched prompts up to the
last checkpoint.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.checkpoints import SEAL_NAME
from models.ppo.alarms import raised_alarms
from models.rows import read_rows
from tasks.reports.style import cell, table
from tasks.reports.training import plot_stage_curves
from tasks.results.curves import read_history
from tasks.run.spec import Page, Result

SAMPLES, SESSION = "samples.jsonl", "session.json"
"""Files of a result and of a checkpoint that hold the samples."""
SHOWN_PROMPTS = 3
CELL = 200
"""Characters of a completion in the table of samples."""


def ppo_page(result: Result, plots: Path) -> Page:
    """Show how it trained, alarms, completions of the watched prompts, and the curves."""
    ppo = result.parameters["ppo"]
    iterations, how = int(ppo["iterations"]), _advantages(ppo)
    if not (result.folder / SAMPLES).is_file():
        return Page(
            title="PPO is training",
            markdown=how + _so_far(result.folder, iterations),
            pictures=_draw(result.folder, plots),
        )
    samples = read_rows(result.folder / SAMPLES)
    return Page(
        title="Whether training stayed healthy, and what it changed",
        markdown=f"{how}{_alarms(result.metrics, iterations)}\n\n{_samples(samples)}",
        pictures=_draw(result.folder, plots),
    )


def _advantages(ppo: Mapping[str, Any]) -> str:
    """What stands in the critic's place; older results and those with a critic need no words."""
    method = ppo.get("advantages", "gae")
    if method == "gae":
        return ""
    return (
        f"Advantages: {method.upper()}, {ppo['group_size']} completions per prompt, no critic.\n\n"
    )


def _so_far(folder: Path, iterations: int) -> str:
    """What the last checkpoint of a training has recorded."""
    sealed = {
        int(path.parent.name.rpartition("-")[2]): path.parent / SESSION
        for path in folder.glob(f"checkpoints/checkpoint-*/{SEAL_NAME}")
    }
    if not sealed:
        return f"{iterations} iterations in all; samples are shown from the first checkpoint on."
    last = max(sealed)
    samples = json.loads(sealed[last].read_text(encoding="utf-8"))["samples"]
    return f"The last checkpoint is iteration {last} of {iterations}.\n\n{_samples(samples)}"


def _draw(folder: Path, plots: Path) -> list[Path]:
    """The curves that a folder holds."""
    history, picture = read_history(folder), plots / "training.png"
    if not history:
        return []
    plot_stage_curves("ppo", history, picture)
    return [picture]


def _alarms(metrics: Mapping[str, float], iterations: int) -> str:
    done = f"{metrics['ppo/iterations']:.0f} of {iterations} iterations"
    raised = raised_alarms(metrics)
    if not raised:
        return f"No alarm in {done}."
    return "\n\n".join(
        (
            f"PPO kept {done}.",
            table(("alarm", "iterations"), raised.items()),
            "Values, bounds and what to do: the stage's log, or `alarms.jsonl` in its folder.",
        )
    )


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    iterations = sorted({sample["iteration"] for sample in samples})
    if not iterations:
        return "There are no held-out prompts to watch."
    middle = min(iterations, key=lambda iteration: abs(2 * iteration - iterations[-1]))
    shown = sorted({iterations[0], middle, iterations[-1]})
    completions = {(one["prompt"], one["iteration"]): one["completion"] for one in samples}
    prompts = list(dict.fromkeys(one["prompt"] for one in samples))[:SHOWN_PROMPTS]
    rows = [
        [cell(text, CELL) for text in (prompt, *(completions.get((prompt, i), "") for i in shown))]
        for prompt in prompts
    ]
    header = ("prompt", *(f"iteration {iteration}" for iteration in shown))
    return table(header, rows, text_columns=len(header))


def alarm_line(metrics: Mapping[str, float]) -> str:
    """Which alarms were raised, and how often, in one line."""
    raised = raised_alarms(metrics)
    if not raised:
        return "PPO raised no alarm."
    listed = ", ".join(f"{name} in {count}" for name, count in raised.items())
    return f"PPO raised alarms ({listed} iterations); see its log."
