"""`quartet run`: the pipeline with a preset, or `foundations`.

Heavy imports stand inside, so that errors appear at once.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from flows.cli.arguments import NAME, NOTE, want_file_to_write
from flows.cli.environment import prepare_environment
from flows.cli.foundations import FOUNDATIONS, plan_foundations, run_foundations
from flows.cli.plan import print_plan
from flows.cli.prefect_runs import flows_run_here, foretold, quick_imports
from flows.cli.terminal import refusals, say
from flows.forms import RunForm
from flows.planning.checks import check_decision, check_parameters, check_registered
from tasks.machine.signals import leave_when_told
from tasks.machine.temporary import begin_prefect
from tasks.run.faults import faults_explained
from tasks.settings import load_settings


def run(
    preset: Annotated[
        str, typer.Argument(help="Name of a preset, see `quartet presets`, or foundations.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="path.to.field=value, such as ppo.kl_coef=0.1; repeatable."),
    ] = None,
    name: Annotated[str, NAME] = "",
    note: Annotated[str, NOTE] = "",
    result: Annotated[
        Path | None, typer.Option(help="Write the result of the run to this JSON file.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would run and what it costs; run nothing.")
    ] = False,
) -> None:
    """Run the pipeline with a preset, or compare families of models, and print the result."""
    with refusals():
        want_file_to_write("--result", result)
    leave_when_told()
    if preset == FOUNDATIONS:
        with refusals(), faults_explained(load_settings()):
            prepare_environment(load_settings())
            if not plan:
                begin_prefect(load_settings())
            planned = plan_foundations(settings or [], name, note)
    else:
        form = _form(preset, settings or [], name, note)
        with refusals(), faults_explained(load_settings()):
            if not plan:
                begin_prefect(load_settings())
            planned = foretold("flows.pipeline", "rlhf_pipeline", form)
    if plan:
        print_plan(planned)
        return
    if preset == FOUNDATIONS:
        outcome = run_foundations(settings or [], name=name, note=note)
    else:
        outcome = _run_pipeline(form)
    if result is not None:
        try:
            result.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            say(f"quartet: --result could not be written: {error}", err=True)
            raise typer.Exit(1) from error


def _form(preset: str, settings: Sequence[str], name: str, note: str) -> RunForm:
    """The form, with what can be refused before anything slow is imported."""
    with refusals():
        form = RunForm.of(preset, settings).called(name, note)
        parameters = form.to_parameters()
        check_parameters(parameters)
        check_decision(parameters)
    with refusals(), faults_explained(load_settings()):
        prepare_environment(load_settings())
        with quick_imports():
            check_registered(parameters)
    return form


def _run_pipeline(form: RunForm) -> dict[str, Any]:
    """Run it here, print its result, and give it as plain values."""
    settings = load_settings()
    with flows_run_here(settings, "flows.pipeline"):
        from flows.cli.report import print_result, result_json  # Prefect and MLflow: seconds
        from flows.pipeline import PipelineResult, rlhf_pipeline

        outcome = cast(PipelineResult, rlhf_pipeline(form))  # approval is off
    print_result(outcome, settings)
    return result_json(outcome)
