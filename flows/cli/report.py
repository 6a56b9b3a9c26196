"""The result of a run: tables in the terminal, and plain JSON values."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.cli.links import see_more
from flows.cli.terminal import add_row, as_text
from flows.pipeline import PipelineResult
from tasks.catalogue import entry
from tasks.reports.ppo import alarm_line
from tasks.results.store import StageRef
from tasks.settings import Settings

COMPARED = (
    ("gold", "gold score"),
    ("correct", "correct answers"),
    ("polite", "polite"),
    ("refusal", "correct refusals"),
    ("score", "reward score"),
    ("judge_score", "held-out score"),
    ("length", "length (tokens)"),
    ("eos_rate", "ends with EOS"),
    ("distinct_2", "distinct-2"),
)

SHOWN_SAMPLES = 3


def result_json(result: PipelineResult) -> dict[str, Any]:
    """The result as `--result` writes it."""
    return {
        "pipeline_run_id": result.pipeline_run_id,
        "mlflow_run_id": result.mlflow_run_id,
        "name": result.name,
        "seconds": result.seconds,
        "stages": stages_json(result.stages),
        "final": result.final,
        "verdict": {"accepted": result.accepted, "reasons": result.reasons},
    }


def stages_json(stages: Sequence[StageRef]) -> list[dict[str, Any]]:
    """Stages as `--result` writes them."""
    return [
        {
            "name": ref.stage,
            "digest": ref.digest,
            "reused": ref.reused,
            "seconds": ref.seconds,
            "mlflow_run_id": ref.run_id,
            "metrics": ref.metrics,
        }
        for ref in stages
    ]


def print_result(result: PipelineResult, settings: Settings) -> None:
    """Print stages, comparison, samples, verdict, and where to see more."""
    console = Console(highlight=False)
    console.print()
    console.print(_stage_table(result))
    for ref in result.stages:
        if ref.stage == "ppo":
            line = alarm_line(ref.metrics)
            console.print(as_text(line, style="yellow" if "alarms" in line else ""))
    policy = result.stages[-2].stage
    console.print(_comparison_table(result.final, entry(policy).title))
    console.print(_sample_table(result.samples, policy))
    colour = "green" if result.accepted else "red"
    console.print(as_text(f"Verdict: {result.verdict}", style=f"bold {colour}"))
    for reason in result.reasons:
        console.print(as_text(f"  - {reason}"))
    console.print()
    ids = {"mlflow_run_id": result.mlflow_run_id, "flow_run_id": result.pipeline_run_id}
    for line in see_more(settings, **ids):
        console.print(as_text(line), soft_wrap=True)


def _stage_table(result: PipelineResult) -> Table:
    title = as_text(f"{result.name}: {result.seconds:.0f} s")
    table = Table(title=title, title_justify="left")
    for column in ("stage", "", "seconds", "key metric"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for ref in result.stages:
        status = "reused" if ref.reused else "new"
        add_row(
            table, ref.stage, status, f"{ref.seconds:.1f}", entry(ref.stage).numbers(ref.metrics)
        )
    return table


def _comparison_table(final: dict[str, float], policy: str) -> Table:
    title = f"SFT against {policy} on {final['final/prompts']:.0f} held-out prompts"
    table = Table("", title=title, title_justify="left")
    for column in ("SFT", policy, "gain, 95% interval"):
        table.add_column(column, justify="right")
    for name, label in COMPARED:
        if not {f"final/{name}_sft", f"final/{name}_ppo"} <= final.keys():
            continue  # not measured in this run
        sft, ppo = (f"{final[f'final/{name}_{model}']:.3f}" for model in ("sft", "ppo"))
        add_row(table, label, sft, ppo, _interval(final, f"final/{name}_gain"))
        if controlled := _interval(final, f"final/{name}_controlled_gain"):
            add_row(table, "  at equal length and ending", "", "", controlled)
    return table


def _interval(final: dict[str, float], name: str) -> str:
    if f"{name}_low" not in final:
        return ""
    mean, low, high = (final[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _sample_table(samples: list[dict[str, str | float]], policy: str) -> Table:
    table = Table(title="Samples, with the same seeds", title_justify="left", show_lines=True)
    for column in ("prompt", "SFT", entry(policy).title):
        table.add_column(column, ratio=1)
    differing = [sample for sample in samples if sample["sft"] != sample[policy]] or samples
    step = max(1, len(differing) // SHOWN_SAMPLES)
    for sample in differing[::step][:SHOWN_SAMPLES]:
        add_row(table, *(sample[key] for key in ("prompt", "sft", policy)))
    return table
