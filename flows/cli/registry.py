"""The commands `quartet promote MODEL` and `quartet rollback NAME`.

Heavy imports stand inside, so that the command line answers at once.
"""

from typing import Annotated, cast

import typer

from flows.parameters import list_presets
from models.errors import ParameterError
from tasks.settings import load_settings


def promote(
    model: Annotated[
        str,
        typer.Argument(help="models:/NAME@ALIAS, models:/NAME/NUMBER, or NAME: its challenger."),
    ],
    preset: Annotated[
        str, typer.Option(help="How completions are drawn; by default the model's own preset.")
    ] = "",
    prompts: Annotated[int, typer.Option(help="Held-out prompts.", min=2)] = 512,
    samples: Annotated[int, typer.Option(help="Completions a prompt.", min=1)] = 4,
    judge: Annotated[str, typer.Option(help="auto, gold, or judge: the held-out one.")] = "auto",
    judge_model: Annotated[str, typer.Option(help="The held-out judge by name.")] = "",
    max_kl: Annotated[
        float, typer.Option(help="Largest KL to its own reference, nats a completion.", min=0.001)
    ] = 10.0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="path.to.field=value, such as sampling.temperature=0.7."),
    ] = None,
) -> None:
    """Make a challenger the champion if it beats the one there is and passes every gate.

    Exit status 0: it is champion now, or was already; 3: it was rejected.
    """
    if judge not in ("auto", "gold", "judge"):
        raise ParameterError(f"--judge got {judge!r}, wanted auto, gold or judge")
    model = model if model.startswith("models:/") else f"models:/{model}@challenger"
    from flows.promotion import PromotionForm, promote_flow  # Prefect and MLflow: seconds
    from tasks.promotion.promotion import Promotion

    form = PromotionForm.of(preset or _preset_of(model), settings or [])
    gates = form.promotion.model_copy(
        update={
            "prompts": prompts,
            "samples_per_prompt": samples,
            "judge": judge,
            "max_kl_to_reference": max_kl,
        }
    )
    form = form.model_copy(update={"promotion": gates})
    done = cast(Promotion, promote_flow(model, form, judge_model=judge_model))
    typer.echo(f"{model} is {done.result}")
    for reason in done.reasons:
        typer.echo(f"  {reason}")
    if done.champion:
        before = done.previous not in ("", done.champion)
        was = f", previous is version {done.previous}" if before else ""
        typer.echo(f"champion of {done.name} is version {done.champion}{was}")
    if done.result == "rejected":
        raise typer.Exit(3)


def rollback(
    name: Annotated[
        str, typer.Argument(help="Of the registered model, such as quickstart-policy.")
    ],
    note: Annotated[str, typer.Option(help="Why; recorded with both versions.")] = "",
) -> None:
    """Give the champion's place back to the previous champion."""
    from tasks.promotion.promotion import rollback as roll_back

    done = roll_back(name, note=note)
    typer.echo(
        f"champion of {done.name} is version {done.champion} again; version {done.previous} is "
        "previous now"
    )


def _preset_of(model: str) -> str:
    """The preset that a registered model was made with.

    Raises:
        ModelError: MLflow does not have the model.
        ParameterError: Its preset is not one of those there are.
    """
    from tasks.registry.versions import find_version
    from tasks.tracking.client import Tracker

    preset = find_version(Tracker(load_settings()), model).tags.get("quartet.preset", "")
    if preset not in list_presets():
        raise ParameterError(
            f"{model} was made with preset {preset!r}, which is none of "
            f"{', '.join(list_presets())}; say with --preset how completions are to be drawn"
        )
    return preset
