"""The commands `quartet evaluate`, `quartet benchmark` and `quartet compare`.

Imports neither Prefect nor MLflow before one is called.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from flows.cli.arguments import NAME, NOTE
from flows.cli.prefect_runs import flows_run_here, foretold
from flows.cli.terminal import refusals, say
from flows.fields import validated
from flows.forms import StageForm
from models.benchmarks.config import MultipleChoiceConfig
from models.errors import ParameterError
from tasks.escaping import from_markdown
from tasks.judging.config import EvaluateModelsConfig
from tasks.machine.temporary import begin_prefect
from tasks.settings import load_settings

if TYPE_CHECKING:
    from tasks.results.store import StageRef

MODELS = typer.Argument(
    help="NAME or LABEL=NAME; a name is a registered model, models:/NAME@ALIAS, stage/DIGEST, a "
    "folder or a hub id."
)


def evaluate(
    models: Annotated[list[str], MODELS],
    prompts: Annotated[
        Path | None,
        typer.Option(help="File of prompts, in any format, with optional completions."),
    ] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", help="reward, judge, gold, vader, endpoint or people; repeatable."),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Preset with the sampling and, without a file, the prompts.")
    ] = "quickstart",
    reward: Annotated[
        str, typer.Option("--reward-model", help="Reward model for --judge reward.")
    ] = "",
    judge_model: Annotated[str, typer.Option(help="Held-out reward model for --judge judge.")] = "",
    reference: Annotated[str, typer.Option(help="Reference model of the KL.")] = "",
    count: Annotated[int, typer.Option(help="Maximum number of prompts.")] = 512,
    samples: Annotated[int, typer.Option(help="Samples per prompt.")] = 4,
    people_prompts: Annotated[int, typer.Option(help="Prompts for --judge people.")] = 50,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    endpoint_url: Annotated[str, typer.Option(help="Base URL for --judge endpoint.")] = "",
    endpoint_model: Annotated[str, typer.Option(help="Model name for --judge endpoint.")] = "",
    criteria: Annotated[str, typer.Option(help="Judging criteria for --judge endpoint.")] = "",
    references: Annotated[
        bool,
        typer.Option("--references", help="Also BLEU and ROUGE against the given completions."),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="path.to.field=value of the preset; repeatable."),
    ] = None,
    name: Annotated[str, NAME] = "",
    note: Annotated[str, NOTE] = "",
) -> None:
    """Compare any models on any prompts and print the report."""
    endpoint = {"url": endpoint_url, "model": endpoint_model, "criteria": criteria}
    judges = judges or ["reward"]
    _refuse_idle_judges(judges, reward, judge_model, endpoint)
    values = {
        "prompts": count,
        "people_prompts": people_prompts,
        "samples_per_prompt": samples,
        "judges": judges,
        "references": references,
        "endpoint": {name: value for name, value in endpoint.items() if value},
    }
    judging = validated(EvaluateModelsConfig, values)
    run = _form(preset, seed, settings or []).called(name, note)
    named = {"reward": reward, "judge": judge_model, "reference": reference}
    given = {"prompts_file": str(prompts or ""), **named}
    with refusals():
        begin_prefect(load_settings())
        foretold("flows.evaluation", "evaluate_models_flow", models, run, judging, **given)
    with flows_run_here(load_settings(), "flows.evaluation"):
        from flows.evaluation import evaluate_models_flow

        ref = evaluate_models_flow(models, run, judging, **given)
    _print_report(cast("StageRef", ref))  # not a state: nobody can cancel it here


def benchmark(
    models: Annotated[list[str], MODELS],
    file: Annotated[
        Path | None,
        typer.Option(
            help="JSONL: question, choices, label; or context, completion; optionally subject."
        ),
    ] = None,
    shots: Annotated[int, typer.Option(help="Solved examples before each question.")] = 0,
    examples: Annotated[
        Path | None, typer.Option(help="JSONL of the examples; default: other rows of the file.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask through the model's chat template.")
    ] = False,
    delimiter: Annotated[
        str, typer.Option(help="Text between question and answer; empty for Chinese.")
    ] = " ",
    lm_eval_tasks: Annotated[
        list[str] | None,
        typer.Option("--lm-eval", help="Task of lm-evaluation-harness; repeatable."),
    ] = None,
    lm_eval_folder: Annotated[
        Path | None, typer.Option(help="Folder with your own lm-eval task definitions.")
    ] = None,
    lm_eval_rows: Annotated[
        int, typer.Option(help="Rows per lm-eval task; 0 = all.", min=0, max=1_000_000_000)
    ] = 0,
    preset: Annotated[str, typer.Option(help="Only names the run.")] = "quickstart",
    seed: Annotated[int, typer.Option(help="Random seed of examples and intervals.")] = 0,
    name: Annotated[str, NAME] = "",
    note: Annotated[str, NOTE] = "",
) -> None:
    """Measure accuracy on your own questions and on published benchmarks."""
    of_tasks = {"--lm-eval-folder": lm_eval_folder, "--lm-eval-rows": lm_eval_rows}
    _refuse_idle("--lm-eval", bool(lm_eval_tasks), of_tasks)
    _refuse_idle("--shots", shots > 0, {"--examples": examples})
    values = {"shots": shots, "prompt": "chat" if chat else "plain", "delimiter": delimiter}
    asking = validated(MultipleChoiceConfig, values)
    run = _form(preset, seed).called(name, note)
    given: dict[str, Any] = {
        "file": str(file or ""),
        "examples": str(examples or ""),
        "lm_eval_tasks": lm_eval_tasks,
        "lm_eval_folder": str(lm_eval_folder or ""),
        "lm_eval_rows": lm_eval_rows,
    }
    with refusals():
        begin_prefect(load_settings())
        foretold("flows.benchmarks", "benchmark_flow", models, run, asking, **given)
    with flows_run_here(load_settings(), "flows.benchmarks"):
        from flows.benchmarks import benchmark_flow

        refs = benchmark_flow(models, run, asking, **given)
    for ref in cast("list[StageRef]", refs):
        _print_report(ref)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Two to seven runs: names, or MLflow ids or their beginnings."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; default: in the home folder.")
    ] = None,
    name: Annotated[str, NAME] = "",
    note: Annotated[str, NOTE] = "",
) -> None:
    """Compare pipeline runs: which is best, why, and how certain that is."""
    from tasks.comparison.finding import check_count, find_runs
    from tasks.tracking.client import Tracker

    settings = load_settings()
    with refusals():
        check_count(runs)
        tracker = Tracker(settings)
        tracker.check()
        runs = [run.info.run_id for run in find_runs(tracker, runs)]
    from prefect.settings import get_current_settings

    if out is None and get_current_settings().api.url:
        with flows_run_here(settings, "flows.compare"):
            from flows.compare import compare_flow

            result = compare_flow(runs, name, note)
    else:  # do not start a server for this alone
        from tasks.comparison.compare import compare_runs

        result = compare_runs.fn(runs, out, name=name, note=note)
    say(result.sentence)
    say(f"Report  {result.folder / 'report.html'}")
    if result.run_id:
        from flows.cli.links import mlflow_page

        say(f"MLflow  {mlflow_page(settings, result.run_id)}")


def _refuse_idle_judges(
    judges: Sequence[str], reward: str, judge_model: str, endpoint: Mapping[str, str]
) -> None:
    of_endpoint = {f"--endpoint-{part}": endpoint[part] for part in ("url", "model")}
    for judge, options in {
        "reward": {"--reward-model": reward},
        "judge": {"--judge-model": judge_model},
        "endpoint": {**of_endpoint, "--criteria": endpoint["criteria"]},
    }.items():
        _refuse_idle(f"--judge {judge}", judge in judges, options)


def _refuse_idle(partner: str, given: bool, options: Mapping[str, object]) -> None:
    """Refuse options that do nothing without another one.

    Raises:
        ParameterError: One is given, and the other is not.
    """
    idle = next((name for name, value in options.items() if value), "")
    if idle and not given:
        raise ParameterError(f"{idle} does nothing without {partner}; give that too, or neither")


def _form(preset: str, seed: int, settings: Any = ()) -> StageForm:
    form = validated(StageForm, StageForm.of(preset, settings).model_dump() | {"seed": seed})
    form.to_parameters()  # refuses before anything starts
    return form


def _print_report(ref: "StageRef") -> None:
    from tasks.run.spec import report_text

    say(from_markdown(report_text(ref)))
    from flows.cli.links import mlflow_page

    settings = load_settings()
    say(f"Results  {settings.store / ref.stage / ref.digest}")
    say(f"MLflow   {mlflow_page(settings, ref.run_id)}\n")
