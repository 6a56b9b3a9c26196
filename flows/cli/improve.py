"""`quartet improve`: rounds of labels, reward model and alignment, each from the newest policy.

Heavy imports stand inside, so that errors appear at once.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.table import Table

from flows.cli.arguments import NAME, NOTE, want_file_to_write
from flows.cli.links import see_more
from flows.cli.plan import print_plan
from flows.cli.prefect_runs import flows_run_here, foretold, quick_imports
from flows.cli.terminal import add_row, as_text, refusals, say, wide_console
from tasks.machine.signals import leave_when_told
from tasks.machine.temporary import begin_prefect
from tasks.settings import load_settings

if TYPE_CHECKING:
    from flows.improve import ImproveResult


def improve(
    preset: Annotated[str, typer.Argument(help="Name of a preset; see `quartet presets`.")],
    rounds: Annotated[
        int, typer.Option(help="Each adds its labels to the others'.", min=1, max=20)
    ] = 3,
    start: Annotated[
        Literal["sft", "newest"],
        typer.Option(help="Align the SFT model, or the policy of the last accepted round."),
    ] = "sft",
    promotion: Annotated[bool, typer.Option(help="Put accepted policies up for promotion.")] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="path.to.field=value, such as feedback.preferences=400."),
    ] = None,
    name: Annotated[str, NAME] = "",
    note: Annotated[str, NOTE] = "",
    result: Annotated[
        Path | None, typer.Option(help="Write the rounds and stages to this JSON file.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would run and what it costs; run nothing.")
    ] = False,
) -> None:
    """Run rounds: labels on the newest policy, a reward model on all of them, a new policy."""
    with refusals():
        want_file_to_write("--result", result)
        with quick_imports():
            from flows.improve import ImproveForm
            from flows.improve import improve as improve_flow
        form = ImproveForm.of(preset, settings or []).called(name, note)
        form = form.model_copy(update={"rounds": rounds, "start": start, "promotion": promotion})
        if not plan:
            begin_prefect(load_settings())
        planned = foretold("flows.improve", "improve", form)
    if plan:
        print_plan(planned)
        return
    leave_when_told()
    with flows_run_here(load_settings(), "flows.improve"):
        done = cast("ImproveResult", improve_flow(form))
    from flows.cli.report import stages_json

    rows = _print_rounds(done)
    if result is not None:
        shown = {"rounds": rows, "stages": stages_json(done.stages)}
        shown |= done.model_dump(mode="json", include={"name", "mlflow_run_id", "seconds"})
        result.write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")


def _print_rounds(done: "ImproveResult") -> list[dict[str, Any]]:
    from tasks.comparison.rounds import read_rounds

    table = Table(title=as_text(f"{done.name}: {done.seconds:.0f} s"), title_justify="left")
    for column in ("round", "sampled by", "labels", "verdict", "promotion", "win rate"):
        table.add_column(column, justify="right" if column in ("labels", "win rate") else "left")
    record = [one for one in done.stages if one.stage == "rounds"][-1]  # a weak round has none
    rows = read_rounds(record)
    for row in rows:
        sampler = f"round {row['sampled_by']}" if row["sampled_by"] else "SFT model"
        rate = f"{row['win_rate']['mean']:.3f}"
        labels = f"{row['labels']:.0f}"
        add_row(table, str(row["round"]), sampler, labels, row["headline"], row["promoted"], rate)
    wide_console().print(table)
    ids = {"mlflow_run_id": done.mlflow_run_id, "flow_run_id": done.pipeline_run_id}
    for line in see_more(load_settings(), **ids):
        say(line)
    return rows
