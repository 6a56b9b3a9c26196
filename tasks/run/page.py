"""Making the page of a published stage: its view is asked for it, whatever comes of that."""

import base64
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.evaluation.result import Outcome, read_outcome, read_samples, side_by_side
from tasks.results.store import Manifest, StageRef, Store
from tasks.run.reporting import run_logger, show_markdown
from tasks.run.spec import Page, Result, StageSpec
from tasks.settings import Settings, load_settings
from tasks.tracking.recording import ABOUT, PLOTS, REPORT, PageRecord, page_folder


def make_page(spec: StageSpec, manifest: Manifest, folder: Path, settings: Settings) -> None:
    """Write the page of a result into the home folder and show it on the Prefect run's page.

    A view that fails costs its page and a warning, never the result.

    Args:
        spec: The stage, with its view.
        manifest: Of the result.
        folder: The result.
        settings: Name the home folder and the store.
    """
    if spec.view is None:
        return
    store = Store(settings.store)
    inputs = {role: store.folder(ref.stage, ref.digest) for role, ref in spec.inputs.items()}
    result = Result(
        folder=folder,
        metrics=manifest.metrics,
        parameters=manifest.parameters,
        inputs={role: path for role, path in inputs.items() if path.is_dir()},
    )
    target = page_folder(settings.root, manifest.stage, manifest.digest)
    try:
        shutil.rmtree(target, ignore_errors=True)
        (target / PLOTS).mkdir(parents=True)
        page = spec.view(result, target / PLOTS)
        _write(page, target)
    except Exception as error:  # whatever a picture or a text could not be made of
        run_logger().warning(
            "no report on %s could be made (%s: %s); the result itself is whole",
            spec.name, type(error).__name__, error,
        )  # fmt: skip
        return
    pictures = inline_pictures(page.pictures)
    show_markdown(f"{spec.name}-report", f"{page.markdown}\n\n{pictures}".strip(), page.title)


def report_text(ref: StageRef) -> str:
    """The text of a result's page, from the home folder; empty where there is none."""
    path = page_folder(load_settings().root, ref.stage, ref.digest) / REPORT
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def published_outcome(ref: StageRef) -> tuple[Outcome, list[dict[str, Any]]]:
    """What a published evaluation decided, and its samples side by side."""
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    return read_outcome(folder), side_by_side(read_samples(folder))


def _write(page: Page, target: Path) -> None:
    (target / REPORT).write_text(page.markdown.rstrip() + "\n", encoding="utf-8")
    about = PageRecord(
        title=page.title,
        pictures=[picture.name for picture in page.pictures],
        on_pipeline=page.on_pipeline,
        tags=dict(page.tags),
    )
    (target / ABOUT).write_text(about.model_dump_json(indent=2), encoding="utf-8")


def picture_data(picture: Path) -> str:
    """A PNG as an address that holds all of it."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def inline_pictures(pictures: Sequence[Path]) -> str:
    """PNGs as Markdown, in this order."""
    return "\n\n".join(f"![{one.stem}]({picture_data(one)})" for one in pictures)
