"""Prepare: files, hub or the embedded generator -> canonical datasets and a quality report."""

import time
from collections.abc import Mapping

from models.errors import DataError
from models.files import shown
from tasks.data.build import build_datasets
from tasks.data.config import NAMED, DataConfig
from tasks.data.report import OnProgress, Progress
from tasks.data.sources import check_source, fingerprint
from tasks.reports.data import data_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import LOG_SECONDS, run_logger
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace

PLACES = ("folder", *NAMED)
"""Fields that say where data lie."""


@stage_task("prepare")
def prepare(config: DataConfig, *, pipeline: PipelineRun, corpus: bool = False) -> StageRef:
    """Publish the datasets that every later stage reads.

    Args:
        corpus: Whether texts to pretrain on are needed, or only taken where there are some.

    Raises:
        DataError: A file or a row is not what a stage can learn from.
    """
    check_source(config, corpus=corpus)

    def learn(work: Workspace) -> Mapping[str, float]:
        report = build_datasets(config, pipeline.seed, work.out, _logged())
        if report.fingerprint != files:
            raise DataError(
                "the data changed while they were read; start again when the files are complete"
            )
        return report.metrics()

    files = fingerprint(config)
    parameters = config.model_dump(mode="json", exclude=_without_effect(config))
    spec = StageSpec(
        name="prepare",
        module=__name__,
        parameters={"data": parameters},
        external={"files": files},
        view=data_page,
    )
    return run_stage(spec, pipeline, learn)


def _without_effect(config: DataConfig) -> set[str]:
    """Fields that change no row: where files lie (their content counts), what is not read."""
    if config.source == "world":
        return {*PLACES, "format", "encoding", "text"}
    return {*PLACES, "world"}


def _logged() -> OnProgress:
    """Log how far the preparation is, every few seconds of one that takes long."""
    begin = last = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LOG_SECONDS:
            last = now
            share = "" if progress.share is None else f", {progress.share:.0%}"
            run_logger().info(
                "prepare: %s rows, %.0f MB, %.0f MB/s%s (%s)",
                f"{progress.rows:,}", progress.bytes / 1e6, progress.bytes / 1e6 / (now - begin),
                share, shown(progress.label),
            )  # fmt: skip

    return tell
