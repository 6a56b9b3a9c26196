"""`quartet run foundations`: families of models on one corpus, and which published claims hold.

Heavy imports stand inside, so that errors appear at once.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from rich.table import Table

from flows.cli.links import see_more
from flows.cli.prefect_runs import flows_run_here, foretold, quick_imports
from flows.cli.terminal import add_row, as_text, say, wide_console
from tasks.settings import load_settings

FOUNDATIONS = "foundations"

if TYPE_CHECKING:
    from flows.foundations import FoundationsResult
    from flows.planning.plan import Plan


def plan_foundations(settings: Sequence[str], name: str = "", note: str = "") -> "Plan":
    """Foretell a run.

    Raises:
        QuartetError: It would be refused.
    """
    with quick_imports():
        from flows.foundations import FoundationsForm
    form = FoundationsForm.of(settings).called(name, note)
    form.to_parameters()
    return foretold("flows.foundations", FOUNDATIONS, form)


def run_foundations(settings: Sequence[str], *, name: str, note: str) -> dict[str, Any]:
    """Run it here, print its claims, and give its result as plain values.

    Raises:
        QuartetError: It is refused, or fails.
    """
    with quick_imports():
        from flows.foundations import FoundationsForm, foundations
    form = FoundationsForm.of(settings).called(name, note)
    with flows_run_here(load_settings(), "flows.foundations"):
        done = cast("FoundationsResult", foundations(form))
    return _print_result(done)


def _print_result(done: "FoundationsResult") -> dict[str, Any]:
    from flows.cli.report import stages_json
    from tasks.run.exchange import published_folder
    from tasks.run.spec import published_results

    report = published_results(done.stages[-1])
    title = as_text(f"{done.name}: {len(done.models)} models, {done.seconds:.0f} s")
    table = Table(title=title, title_justify="left")
    for column in ("claim", "source", "first", "second", "here"):
        table.add_column(column, justify="right" if column in ("first", "second") else "left")
    for one in report["claims"]:
        numbers = (f"{one[side]:.3f}" for side in ("first", "second"))
        add_row(table, one["claim"], one["source"], *numbers, one["verdict"])
    wide_console().print(table)
    say(f"All numbers: {published_folder(done.stages[-1])}")
    ids = {"mlflow_run_id": done.mlflow_run_id, "flow_run_id": done.pipeline_run_id}
    for line in see_more(load_settings(), **ids):
        say(line)
    shown = done.model_dump(mode="json", include={"name", "mlflow_run_id", "seconds"})
    claims = [{**one, "difference": _plain(one["difference"])} for one in report["claims"]]
    return {**shown, **report, "claims": claims, "stages": stages_json(done.stages)}


def _plain(interval: dict[str, float]) -> dict[str, float | None]:
    """An end that there is none of as JSON has it."""
    return {end: value if math.isfinite(value) else None for end, value in interval.items()}
