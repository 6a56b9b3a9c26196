"""`quartet compare RUN RUN …`: one report on several pipeline runs, from the command line.

Imports neither Prefect nor MLflow before it is called.
"""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Two to seven runs: names, ids or beginnings of ids.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; one in the home folder by default.")
    ] = None,
) -> None:
    """Compare pipeline runs: which is best, why, and how sure that is.

    With a Prefect server set, and no folder of the user's own, it is a flow run there; otherwise
    none is started only for this.
    """
    from prefect.settings import get_current_settings

    from flows.compare import compare_flow
    from tasks.comparison.compare import compare_runs

    if out is None and get_current_settings().api.url:
        result = compare_flow(runs)
    else:
        result = compare_runs.fn(runs, out)
    typer.echo(result.sentence)
    typer.echo(f"Report  {result.folder / 'report.html'}")
    if result.run_id:
        typer.echo(f"MLflow  run {result.name} ({result.run_id})")
