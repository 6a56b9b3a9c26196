"""`quartet check`: what files are, whether training on them would be wrong, how a model sees them.

The files are prepared as a run prepares them, into a folder that is removed again; nothing is
written to the home folder or sent to a server, and no server is started.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flows.cli.arguments import checked, want_home
from flows.cli.environment import prepare_environment
from flows.cli.terminal import as_text, refusals, say
from flows.fields import given_fields, validated
from flows.parameters import PipelineParameters
from models.errors import DataError, ParameterError, QuartetError
from models.language.config import SamplingConfig, Turns
from models.reward.config import RewardStageConfig
from models.training.config import SFTStageConfig
from tasks.data.config import DataConfig
from tasks.settings import load_settings

if TYPE_CHECKING:
    from tasks.data.inspection.records import Finding
    from tasks.data.report import OnProgress, PreparationReport
    from tasks.data.report import Progress as Step
    from tasks.preview.given import GivenFile
    from tasks.preview.rows import Reader

ROWS = 10
"""How many are shown, of all collections together."""


def check(
    sources: Annotated[
        list[str], typer.Argument(help="Files, folders, globs or ids of the hub's datasets.")
    ],
    model: Annotated[
        str, typer.Option(help="Show rows as this model's tokens; named as for `quartet chat`.")
    ] = "",
    wanted: Annotated[
        str,
        typer.Option(
            "--as", help="corpus, demonstrations, preferences or prompts; default: recognised."
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="path.to.field=value, such as data.encoding=gb18030."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the report with its pictures to this folder.")
    ] = None,
) -> None:
    """Say what files are, and whether training on them would be wrong; show ten rows.

    Exit status 1: training on them would be wrong.
    """
    with refusals():
        options = checked({"sources": sources, "model": model, "as": wanted, "out": out})
        want_home(load_settings())
        _want_folder(options["out"])
        fields = given_fields(PipelineParameters, settings or [])
        config = validated(
            DataConfig, {**fields.get("data", {}), "source": "sources", "preferences": "given"}
        )
        turns = validated(SFTStageConfig, fields.get("sft", {})).turns
    try:
        with contextlib.ExitStack() as stack:
            given = _recognised(options["sources"], options["as"], config)
            reader = _open_model(options["model"], fields, stack)
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="quartet-"))
            wrong = _look(given, config, reader, Path(scratch), options["out"], turns)
    except ParameterError as error:
        say(f"quartet: {error}", err=True)
        raise typer.Exit(2) from error
    except (QuartetError, OSError) as error:
        say(f"quartet: {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(int(wrong))


def _want_folder(out: Path | None) -> None:
    """Refuse what no folder can be, before the work for it is done."""
    if (
        out is not None
        and not out.is_dir()
        and (out.exists() or not out.absolute().parent.is_dir())
    ):
        raise ParameterError(f"--out got {out}, wanted a folder, or a new one in one that exists")


def _open_model(
    name: str, fields: Mapping[str, Any], stack: contextlib.ExitStack
) -> "Reader | None":
    """The model's tokenizer, while the stack lasts; a name that is no folder's may ask MLflow."""
    if not name:
        return None
    if not os.path.isdir(os.path.expanduser(name)):
        prepare_environment(load_settings())
    from tasks.preview.rows import open_reader
    from tasks.stages.resolve import model_folder

    found = stack.enter_context(model_folder(name))
    return open_reader(
        found.path,
        found.name,
        sft=validated(SFTStageConfig, fields.get("sft", {})),
        reward=validated(RewardStageConfig, fields.get("reward", {})),
        sampling=validated(SamplingConfig, fields.get("sampling", {})),
    )


def _recognised(names: Sequence[str], wanted: str, config: DataConfig) -> "list[GivenFile]":
    from tasks.preview.given import recognise_files

    return recognise_files(names, wanted, config)


def _look(
    given: "Sequence[GivenFile]",
    config: DataConfig,
    reader: "Reader | None",
    folder: Path,
    out: Path | None,
    turns: Turns,
) -> bool:
    """Prepare the data, print what was found, and say whether training on them would be wrong."""
    from flows.cli.check_report import print_counts, print_findings, print_sources
    from tasks.data.build import build_datasets
    from tasks.preview.given import as_config

    limits = reader.token_limits() if reader else None
    try:
        with _bar() as progress:
            report = build_datasets(
                as_config(given, config), 0, folder, progress, alone=True, limits=limits
            )
    except DataError:
        print_sources(given)
        raise
    findings = _findings(report, folder, reader)
    print_sources(given, report)
    say()
    print_findings(findings)
    say()
    print_counts(report)
    say()
    _print_rows(report, folder, reader, turns)
    if out is not None:
        _write_page(folder, out)
    return _print_verdict(findings)


def _print_verdict(findings: "Sequence[Finding]") -> bool:
    """The last line; whether training on the data would be wrong."""
    wrong = [one.text for one in findings if one.severity == "wrong"]
    look = sum(one.severity == "look" for one in findings)
    if wrong:
        say(f"\nTraining on this would be wrong: {wrong[0]}")
    else:
        say(f"\nNothing is wrong; worth a look: {look}." if look else "\nNothing is wrong.")
    return bool(wrong)


def _print_rows(
    report: "PreparationReport", folder: Path, reader: "Reader | None", turns: Turns
) -> None:
    from flows.cli.rows import print_rows
    from tasks.preview.rows import show_rows

    names = [one.name for one in report.collections if one.train + one.heldout]
    counts = {name: len(range(at, ROWS, len(names))) for at, name in enumerate(names)}
    rows = [row for name in names for row in show_rows(folder, name, counts[name], reader, turns)]
    print_rows(rows, "token" if reader else "word")
    if reader is None:
        say("These are words; --model NAME shows tokens, what is cut, and what a template adds.")


def _write_page(data: Path, out: Path) -> None:
    """Write the report that a run shows for its data, with its pictures."""
    from tasks.reports.data import data_page
    from tasks.run.spec import Result  # imports Prefect

    (out / "plots").mkdir(parents=True, exist_ok=True)
    page = data_page(Result(folder=data, metrics={}, parameters={}, inputs={}), out / "plots")
    pictures = "".join(f"\n![{one.stem}](plots/{one.name})\n" for one in page.pictures)
    (out / "report.md").write_text(f"{page.markdown.rstrip()}\n{pictures}", encoding="utf-8")
    say(f"The whole report: {out / 'report.md'}")


def _findings(
    report: "PreparationReport", folder: Path, reader: "Reader | None"
) -> "tuple[Finding, ...]":
    """What is wrong with the data, and with the data for this model."""
    from tasks.data.inspection.findings import judge_data
    from tasks.data.inspection.records import Finding
    from tasks.stages.templates import check_rows

    found = [
        Finding(severity="wrong", text=f"{one.name}: none of {one.read:,} rows can be used")
        for one in report.collections
        if one.read and not one.train + one.heldout
    ]
    if reader is not None:
        try:
            check_rows(folder, reader.folder, reader.name)
        except DataError as error:
            found.append(Finding(severity="wrong", text=str(error)))
    return (*found, *judge_data(report))


@contextlib.contextmanager
def _bar() -> "Iterator[OnProgress]":
    """A progress bar on the error stream, gone when all is read."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]} rows"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("reading", total=1.0, rows="0")

        def show(step: "Step") -> None:
            bar.update(
                task,
                description=as_text(step.label).plain,
                completed=step.share or 0.0,
                rows=f"{step.rows:,}",
            )

        yield show
