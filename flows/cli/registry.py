"""Commands about existing models and stages: promote, rollback, lineage and gc.

Heavy imports stand inside, so that errors appear at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from flows.cli.arguments import NAME, NOTE, want_file_to_write
from flows.cli.prefect_runs import flows_run_here, quick_imports
from flows.cli.terminal import add_row, refusals, say, wide_console
from flows.parameters import list_presets
from models.errors import ParameterError
from tasks.judging.judges import Decider
from tasks.settings import load_settings

if TYPE_CHECKING:
    from tasks.promotion.promotion import Promotion
    from tasks.registry.records import Record
    from tasks.registry.versions import ModelVersion
    from tasks.upkeep.sweeping import Item

MOST = 1_000_000_000


def promote(
    model: Annotated[
        str,
        typer.Argument(
            help="NAME for its best accepted version, or models:/NAME@ALIAS, models:/NAME/NUMBER."
        ),
    ],
    preset: Annotated[
        str, typer.Option(help="Preset with the sampling; default: the preset of the model.")
    ] = "",
    prompts: Annotated[int, typer.Option(help="Held-out prompts.", min=2, max=MOST)] = 512,
    samples: Annotated[int, typer.Option(help="Samples per prompt.", min=1, max=10_000)] = 4,
    judge: Annotated[
        str,
        typer.Option(help="gold, judge (held-out reward model), vader, endpoint, people or auto."),
    ] = "auto",
    judge_model: Annotated[str, typer.Option(help="Held-out reward model for --judge judge.")] = "",
    people_prompts: Annotated[int, typer.Option(help="Prompts for --judge people.", min=1)] = 50,
    max_kl: Annotated[
        float,
        typer.Option(help="Maximum KL to the reference model, in nats.", min=0.001, max=1_000_000),
    ] = 10.0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="path.to.field=value, such as sampling.temperature=0.7; repeatable."
        ),
    ] = None,
    name: Annotated[str, NAME] = "",
    note: Annotated[str, NOTE] = "",
) -> None:
    """Make a challenger the champion if it beats the current one and passes every gate.

    Exit status 0: it is the champion now; 3: it was rejected.
    """
    if judge not in get_args(Decider):
        raise ParameterError(f"--judge got {judge!r}, wanted one of {', '.join(get_args(Decider))}")
    with refusals(), quick_imports():
        from tasks.registry.versions import want_registered  # MLflow: a second

        want_registered(model)
        from tasks.promotion.challenger import find_challenger, refuse_too_few  # Prefect: another

        challenger, why = find_challenger(model)
        preset = preset or _preset_of(challenger)
        from flows.promotion import PromotionForm, promote_flow

        form = PromotionForm.of(preset, settings or [])
        given = {"prompts": prompts, "people_prompts": people_prompts, "judge": judge}
        given |= {"samples_per_prompt": samples, "max_kl_to_reference": max_kl}
        chosen = form.promotion.model_copy(update=given)
        form = form.model_copy(update={"promotion": chosen}).called(name, note)
        refuse_too_few(challenger, form.gates())
    if why:
        say(why)
    with flows_run_here(load_settings(), "flows.promotion"):
        done = cast("Promotion", promote_flow(challenger.uri, form, judge_model=judge_model))
    say(f"{challenger.uri} is {done.result}")
    _say_promotion(done)
    if done.result == "rejected":
        raise typer.Exit(3)


def _say_promotion(done: "Promotion") -> None:
    for reason in done.reasons:
        say(f"  {reason}")
    if done.champion:
        before = done.previous not in ("", done.champion)
        was = f", previous is version {done.previous}" if before else ""
        say(f"champion of {done.name} is version {done.champion}{was}")


def rollback(
    name: Annotated[str, typer.Argument(help="Registered model, such as quickstart-policy.")],
    note: Annotated[str, typer.Option(help="Reason; recorded with both versions.")] = "",
    to: Annotated[
        str, typer.Option(help="Number of the previous champion; needed if it was rolled back.")
    ] = "",
) -> None:
    """Make the previous champion the champion again.

    Safe to repeat: a version that was itself rolled back becomes champion again only if --to names
    it.
    """
    from tasks.registry.versions import want_registered  # MLflow: a second

    want_registered(name)
    from tasks.promotion.rollback import rollback as roll_back  # Prefect: another

    done = roll_back(name, to=to, note=note)
    if done.result == "unchanged":
        say(f"{done.name}: {done.reasons[0]}")
        return
    say(
        f"champion of {done.name} is version {done.champion} again; version {done.previous} is "
        "now previous"
    )


def lineage(
    model: Annotated[
        str,
        typer.Argument(
            help="Registered model, models:/NAME@ALIAS, stage/DIGEST or the beginning of a digest."
        ),
    ],
    picture: Annotated[
        Path | None, typer.Option(help="Also write it as a picture to this PNG file.")
    ] = None,
) -> None:
    """Show the lineage of a model, with digests, runs and dates."""
    want_file_to_write("--picture", picture, ".png")
    from tasks.registry.lineage import ancestry

    records = ancestry(load_settings(), model)
    _print_lineage(records)
    if picture is not None:
        from tasks.reports.lineage import draw_lineage

        draw_lineage(records, picture)
        say(f"picture written to {picture}")


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
    older_than_days: Annotated[
        float,
        typer.Option(
            help="Keep unfinished work and caches that were used within this many days.",
            min=0.0,
            max=100_000,
        ),
    ] = 7.0,
    keep_days: Annotated[
        float | None,
        typer.Option(
            help="Also weights and samples that no run of this many days names; metrics, reports "
            "and manifests stay.",
            min=0.0,
            max=100_000,
        ),
    ] = None,
    accepted: Annotated[
        bool, typer.Option("--accepted", help="With --keep-days: accepted policies too.")
    ] = False,
) -> None:
    """List and remove stages and checkpoints that nothing refers to, unused caches, old weights."""
    if yes and dry_run:
        raise ParameterError("--yes and --dry-run exclude each other; give one of them")
    if accepted and keep_days is None:
        raise ParameterError("--accepted says which old weights may go; give --keep-days too")
    from tasks.upkeep.garbage import find_garbage, remove_garbage
    from tasks.upkeep.retention import find_old, remove_old
    from tasks.upkeep.sweeping import in_mib

    settings = load_settings()
    found = find_garbage(settings, older_than_days=older_than_days)
    old = () if keep_days is None else find_old(settings, keep_days=keep_days, accepted=accepted)
    items = [*found.items, *old]
    _print_garbage(items, found.notices)
    if not items:
        return
    if dry_run:
        say("dry run: nothing was removed")
        return
    if not yes and not _can_ask():
        say("no terminal to ask in, so nothing was removed; give --yes to remove")
        return
    if not yes and not typer.confirm(f"Remove these, {in_mib(items)}?"):
        say("nothing was removed")
        return
    removed = remove_garbage(settings, found)
    if keep_days is not None:
        removed += remove_old(settings, old, keep_days=keep_days, accepted=accepted)
    gone = {item.path for item in removed}
    for item in items:
        if item.path not in gone:
            say(f"kept {item.path}: now in use, or it could not be removed")
    say(f"removed {len(removed)}, {in_mib(removed)} freed")


def _preset_of(version: "ModelVersion") -> str:
    preset = version.tags.get("quartet.preset", "")
    if preset not in list_presets():
        raise ParameterError(
            f"{version.uri} was made with preset {preset!r}, which is none of "
            f"{', '.join(list_presets())}; choose one of them with --preset for the sampling"
        )
    return preset


def _print_lineage(records: "list[Record]") -> None:
    from rich.table import Table

    from tasks.reports.lineage import date, numbers, short, sources, title

    known = {record.digest: record for record in records}
    table = Table(title="Lineage, from first to last", title_justify="left")
    for name in ("stage", "digest", "made from", "MLflow run", "made (UTC)", "metrics"):
        table.add_column(name, overflow="fold", no_wrap=name in ("stage", "digest"))
    for one in records:
        add_row(
            table,
            title(one),
            short(one.digest),
            "\n".join(sources(one, known)),
            one.run_id[:8],
            date(one),
            "\n".join(numbers(one)),
            style="bold" if one.asked else None if one.state == "published" else "dim",
            end=True,
        )
    wide_console().print(table)


def _print_garbage(items: "Sequence[Item]", notices: Sequence[str]) -> None:
    from rich.table import Table

    from tasks.upkeep.sweeping import in_mib

    for sentence in notices:
        say(sentence)
    if not items:
        say("nothing to remove: everything is referred to, or too recent")
        return
    table = Table("stage", "digest", "what", "age", "size", "reason")
    for index, column in enumerate(table.columns):
        column.no_wrap = index in (0, 1, 3, 4)
        column.justify = "right" if index in (3, 4) else "left"
        column.overflow = "fold"
    for item in items:
        age = f"{item.age_days:.1f} days"
        add_row(table, item.stage, item.digest[:12], item.what, age, in_mib([item]), item.why)
    table.add_section()
    table.add_row("total", f"{len(items)}", "", "", in_mib(items), "")
    wide_console().print(table)


def _can_ask() -> bool:
    return sys.stdin.isatty()
