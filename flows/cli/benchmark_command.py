"""`quartet benchmark MODEL … --file questions.jsonl`: known answers, from the command line.

Imports neither Prefect nor MLflow before it is called.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from pydantic import ValidationError

from flows.cli.evaluate import explain
from models.errors import ParameterError

if TYPE_CHECKING:
    from tasks.results.store import StageRef


def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(
            help="label=NAME or NAME: stage/DIGEST, models:/NAME@ALIAS, a folder or a hub id."
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            help="JSONL: question, choices, label; or context, completion; perhaps subject."
        ),
    ] = None,
    shots: Annotated[int, typer.Option(help="Solved examples before each question.")] = 0,
    examples: Annotated[
        Path | None, typer.Option(help="JSONL they come from; else other rows of the file.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask through the model's chat template.")
    ] = False,
    delimiter: Annotated[
        str, typer.Option(help="Between question and answer; empty for Chinese.")
    ] = " ",
    lm_eval_tasks: Annotated[
        list[str] | None,
        typer.Option("--lm-eval", help="Task of lm-evaluation-harness; may repeat."),
    ] = None,
    lm_eval_folder: Annotated[
        Path | None, typer.Option(help="Folder with task definitions of your own.")
    ] = None,
    lm_eval_rows: Annotated[int, typer.Option(help="Rows of each of its tasks; 0: all.")] = 0,
    preset: Annotated[str, typer.Option(help="Named on the run; decides nothing else.")] = (
        "quickstart"
    ),
    seed: Annotated[int, typer.Option(help="Of the examples and intervals.")] = 0,
) -> None:
    """Measure accuracy on questions with known answers, and on published benchmarks."""
    from flows.benchmarks import benchmark_flow

    form, asking = _forms(preset, seed, shots=shots, chat=chat, delimiter=delimiter)
    refs = cast(
        "list[StageRef]",  # nobody is asked, so nobody refuses
        benchmark_flow(
            models,
            form,
            asking,
            file=str(file or ""),
            examples=str(examples or ""),
            lm_eval_tasks=lm_eval_tasks,
            lm_eval_folder=str(lm_eval_folder or ""),
            lm_eval_rows=lm_eval_rows,
        ),
    )
    _print(refs)


def _forms(preset: str, seed: int, *, shots: int, chat: bool, delimiter: str) -> tuple[Any, Any]:
    """Fill in what the flow takes, with errors of the command line's own kind."""
    from flows.forms import StageForm
    from models.benchmarks.config import MultipleChoiceConfig

    try:
        asking = MultipleChoiceConfig(
            shots=shots, prompt="chat" if chat else "plain", delimiter=delimiter
        )
        form = StageForm.model_validate(StageForm.of(preset).model_dump() | {"seed": seed})
    except ValidationError as error:
        raise ParameterError(explain(error)) from error
    return form, asking


def _print(refs: "list[StageRef]") -> None:
    from tasks.results.store import Store
    from tasks.run.page import report_text
    from tasks.settings import load_settings

    for ref in refs:
        folder = Store(load_settings().store).folder(ref.stage, ref.digest)
        typer.echo(report_text(ref))
        typer.echo(f"All numbers: {folder}\n")
