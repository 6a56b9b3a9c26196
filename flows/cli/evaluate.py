"""`quartet evaluate MODEL MODEL …`: any models, any prompts, any judges, from the command line.

Imports neither Prefect nor MLflow before it is called.
"""

from pathlib import Path
from typing import Annotated, Any, cast

import typer
from pydantic import ValidationError

from models.errors import ParameterError


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="label=NAME or NAME: stage/DIGEST, models:/NAME@ALIAS, a folder or a hub id."
        ),
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSONL file with a prompt, perhaps a completion, a line."),
    ] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", help="reward, judge, gold, vader or endpoint; may repeat."),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Gives sampling, and prompts where no file does.")
    ] = "quickstart",
    reward: Annotated[str, typer.Option("--reward-model", help="For judge reward.")] = "",
    judge_model: Annotated[str, typer.Option(help="For judge judge: a second reward model.")] = "",
    reference: Annotated[str, typer.Option(help="Model to which the KL is measured.")] = "",
    count: Annotated[int, typer.Option(help="Most prompts.")] = 512,
    samples: Annotated[int, typer.Option(help="Samples a prompt.")] = 4,
    seed: Annotated[int, typer.Option(help="Of prompts, sampling and intervals.")] = 0,
    endpoint_url: Annotated[str, typer.Option(help="For judge endpoint: base address.")] = "",
    endpoint_model: Annotated[str, typer.Option(help="For judge endpoint: its name.")] = "",
    criteria: Annotated[str, typer.Option(help="For judge endpoint: what to look at.")] = "",
    references: Annotated[
        bool, typer.Option("--references", help="BLEU and ROUGE against given completions.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="path.to.field=value of the preset.")
    ] = None,
) -> None:
    """Evaluate any models on any prompts and print how they compare."""
    endpoint = {"url": endpoint_url, "model": endpoint_model, "criteria": criteria}
    judging = {
        "prompts": count,
        "samples_per_prompt": samples,
        "judges": judges or ["reward"],
        "references": references,
        "endpoint": {name: value for name, value in endpoint.items() if value},
    }
    named = {
        "prompts_file": str(prompts) if prompts else "",
        "reward": reward,
        "judge": judge_model,
        "reference": reference,
    }
    _run(models, judging, named, preset=preset, settings=settings or [], seed=seed)


def _run(
    models: list[str],
    judging: dict[str, Any],
    named: dict[str, str],
    *,
    preset: str,
    settings: list[str],
    seed: int,
) -> None:
    """Run the flow and print its report."""
    from flows.evaluation import evaluate_models_flow
    from flows.forms import StageForm
    from tasks.judging.config import EvaluateModelsConfig
    from tasks.results.store import StageRef, Store
    from tasks.run.page import report_text
    from tasks.settings import load_settings

    try:
        config = EvaluateModelsConfig.model_validate(judging)
        form = StageForm.of(preset, settings).model_dump() | {"seed": seed}
        run = StageForm.model_validate(form)
    except ValidationError as error:
        raise ParameterError(explain(error)) from error
    ref = cast(StageRef, evaluate_models_flow(models, run, config, **named))  # nobody refuses
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    typer.echo(report_text(ref))
    typer.echo(f"All numbers and samples: {folder}")


def explain(error: ValidationError) -> str:
    """All of pydantic's errors on one line, each with its field."""
    told = []
    for one in error.errors():
        where = ".".join(map(str, one["loc"]))
        message = str(one["msg"]).removeprefix("Value error, ")
        told.append(f"{where}: {message}" if where else message)
    return "; ".join(told)
