"""PPO's page: whether training stayed healthy, and the same prompts through the training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.ppo.alarms import raised_alarms
from models.rows import read_rows
from tasks.reports.style import cell, table
from tasks.run.spec import Page, Result

SHOWN_PROMPTS = 3
CELL = 200
"""Characters of a completion in the table of samples."""


def ppo_page(result: Result, _plots: Path) -> Page:
    """Show the alarms that were raised, and completions of the watched prompts."""
    samples = read_rows(result.folder / "samples.jsonl")
    iterations = int(result.parameters["ppo"]["iterations"])
    text = f"{_alarms(result.metrics, iterations)}\n\n{_samples(samples)}"
    return Page(title="Whether training stayed healthy, and what it changed", markdown=text)


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
