"""What a stage is made of, how its MLflow run says so, and how its result is shown to people."""

import base64
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from models.evaluation.result import Outcome, read_outcome, read_samples, side_by_side
from models.rows import read_json
from tasks.catalogue import entry
from tasks.escaping import code_span, for_markdown
from tasks.results.store import Manifest, StageRef, Store
from tasks.run.cards import Card
from tasks.run.overview import overview
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import run_logger
from tasks.settings import Settings, load_settings
from tasks.tracking.facts import code_tags, judged_tags
from tasks.tracking.recording import ABOUT, PLOTS, REPORT, About, page_folder, read_about


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A published stage as a view reads it.

    Attributes:
        folder: Its files: numbers, rows and models; of one that is still computed (`Entry.live`),
            its curves and checkpoints so far.
        parameters: The slice that it was made with.
        inputs: Folders of its inputs by role, as far as they are in the store.
    """

    folder: Path
    metrics: Mapping[str, float]
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What people see of a result: on the Prefect run's page, in MLflow, in the home folder.

    Attributes:
        pictures: PNGs in the order in which they are shown.
        on_pipeline: Whether text and pictures stand in the report of the Prefect run, and on the
            pipeline's MLflow run too.
        tags: Of the pipeline's MLflow run.
    """

    title: str
    markdown: str
    pictures: Sequence[Path] = ()
    on_pipeline: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


View: TypeAlias = Callable[[Result, Path], Page]
"""Makes the page of a result; pictures are drawn into the folder that it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """What a stage is.

    Attributes:
        module: The module whose code, with what it imports, shapes the result.
        parameters: The stage's slice, under the names that the pipeline's parameters have.
        inputs: Published stages by role.
        external: Digests of inputs from outside by role: files, hub revisions.
        total_steps: Steps of its progress bar; 0 if unknown.
        trains: Whether it needs the device to itself.
        view: How its result is shown, if it is; never part of its identity.
    """

    name: str
    module: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, StageRef] = field(default_factory=dict)
    external: Mapping[str, str] = field(default_factory=dict)
    total_steps: int = 0
    trains: bool = False
    view: View | None = None


def stage_tags(
    spec: StageSpec, digest: str, pipeline: PipelineRun, *, page: Callable[[str], str]
) -> dict[str, str]:
    """Tags of a stage's run: identity, code, and for each input role the digest and its run.

    Args:
        page: Gives the address of a run's page.
    """
    tags = {
        "mlflow.parentRunId": pipeline.run_id,
        "mlflow.note.content": _note(spec, digest, pipeline, page),
        "quartet.kind": "stage",
        "quartet.stage": spec.name,
        "quartet.digest": digest,
        "quartet.preset": pipeline.preset,
        "quartet.seed": str(pipeline.seed),
        **code_tags(),
    }
    for role, ref in spec.inputs.items():
        tags[f"input.{role}"] = f"{ref.stage}/{ref.digest}"
        tags[f"input.{role}.run_id"] = ref.run_id
    for role, outside in spec.external.items():
        tags[f"input.{role}"] = outside
    return tags | judged_tags(spec.name, {role: ref.digest for role, ref in spec.inputs.items()})


def _note(spec: StageSpec, digest: str, pipeline: PipelineRun, page: Callable[[str], str]) -> str:
    run = code_span(pipeline.name)
    title = f"Stage **{spec.name}** of pipeline run {run}, digest `{digest[:12]}`."
    rows = [
        f"| {role} | [{ref.stage}]({page(ref.run_id)}) | `{ref.digest[:12]}` |"
        for role, ref in spec.inputs.items()
    ]
    rows += [f"| {role} | outside | {code_span(name)} |" for role, name in spec.external.items()]
    if not rows:
        return title
    return "\n".join([title, "", "| role | made by | digest |", "|---|---|---|", *rows])


def show_page(
    spec: StageSpec,
    manifest: Manifest,
    folder: Path,
    settings: Settings,
    *,
    again: bool,
    part: str = "",
) -> None:
    """Write the page of a result into the home folder and show it on the Prefect run's page.

    A view that fails costs its page and a warning, never the result.

    Args:
        spec: The stage, with its view.
        manifest: Of the result.
        folder: The result.
        settings: Name the home folder and the store.
        again: Whether to make a page that is there already once more.
        part: Of the pipeline run; pages of several stages of one name stand beside each other.
    """
    if spec.view is None:
        return
    target = page_folder(settings.root, manifest.stage, manifest.digest)
    made = again or read_about(target) is None
    try:
        if made:
            _write_page(spec, spec.view, manifest, folder, target, Store(settings.store))
        _show_page(spec.name, target, part)
    except Exception as error:  # whatever a picture or a text could not be made of
        if not made:  # a damaged page
            show_page(spec, manifest, folder, settings, again=True, part=part)
            return
        run_logger().warning(
            "no report on %s could be made (%s: %s); the result itself is whole",
            spec.name, type(error).__name__, error,
        )  # fmt: skip


def live_page(spec: StageSpec, partial: Path) -> Callable[[], None] | None:
    """What shows a stage while it is computed, on the card that will show its result.

    Args:
        partial: Its working folder, with its curves and checkpoints so far.
    """
    view = spec.view if entry(spec.name).live else None
    if view is None:
        return None
    card = Card(page_key(spec.name), "markdown")

    def show() -> None:
        with tempfile.TemporaryDirectory() as plots:
            page = view(
                Result(folder=partial, metrics={}, parameters=spec.parameters, inputs={}),
                Path(plots),
            )
            card.show(_with_pictures(page.markdown, page.pictures), for_markdown(page.title))

    return show


def _with_pictures(text: str, pictures: Sequence[Path]) -> str:
    shown = "\n\n".join(f"![{one.stem}]({picture_data(one)})" for one in pictures)
    return f"{text}\n{shown}".strip()


def _show_page(stage: str, target: Path, part: str) -> None:
    about = read_about(target)
    if about is None:
        raise FileNotFoundError(f"{target} holds no page")
    drawn = [target / PLOTS / name for name in about.pictures]
    text = _with_pictures((target / REPORT).read_text(encoding="utf-8"), drawn)
    if about.on_pipeline and overview().shown:
        overview().add_text(stage, text)
        return
    card = Card(page_key(stage, part), "markdown")
    card.show(text, for_markdown(about.title))
    overview().link(stage, page=card.address())


def page_key(stage: str, part: str = "") -> str:
    """Key of the card that shows a stage's page; Prefect wants small letters and dashes."""
    own = re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")
    return "-".join(filter(None, (stage, own, "report")))


def _write_page(
    spec: StageSpec, view: View, manifest: Manifest, folder: Path, target: Path, store: Store
) -> None:
    inputs = {role: store.folder(ref.stage, ref.digest) for role, ref in spec.inputs.items()}
    result = Result(
        folder=folder,
        metrics=manifest.metrics,
        parameters=manifest.parameters,
        inputs={role: path for role, path in inputs.items() if path.is_dir()},
    )
    shutil.rmtree(target, ignore_errors=True)
    (target / PLOTS).mkdir(parents=True)
    page = view(result, target / PLOTS)
    (target / REPORT).write_text(page.markdown.rstrip() + "\n", encoding="utf-8")
    about = About(
        title=page.title,
        pictures=[picture.name for picture in page.pictures],
        on_pipeline=page.on_pipeline,
        tags=dict(page.tags),
    )
    (target / ABOUT).write_text(about.model_dump_json(indent=2), encoding="utf-8")  # last


def report_text(ref: StageRef) -> str:
    """The text of a result's page, from the home folder; empty where there is none."""
    path = page_folder(load_settings().root, ref.stage, ref.digest) / REPORT
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def published_outcome(ref: StageRef) -> tuple[Outcome, list[dict[str, Any]]]:
    """What a published evaluation decided, and its samples side by side."""
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    return read_outcome(folder), side_by_side(read_samples(folder))


def published_results(ref: StageRef) -> Any:
    """What a published stage's results.json holds."""
    return read_json(Store(load_settings().store).folder(ref.stage, ref.digest) / "results.json")


def picture_data(picture: Path) -> str:
    """A PNG as an address that holds all of it."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
