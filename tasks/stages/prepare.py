"""Prepare: files, hub or the embedded generator -> canonical datasets and a quality report."""

from collections.abc import Mapping

from models.errors import DataError
from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.sources import fingerprint, require_corpus
from tasks.reports.data import data_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import Workspace, run_stage, stage_task


@stage_task("prepare")
def prepare(config: DataConfig, *, pipeline: PipelineRun, corpus: bool = False) -> StageRef:
    """Publish the datasets that every later stage reads.

    Args:
        corpus: Whether texts to pretrain on are needed, or only taken where there are some.

    Raises:
        DataError: A file or a row is not what a stage can learn from.
    """
    if corpus:
        require_corpus(config)

    def learn(work: Workspace) -> Mapping[str, float]:
        report = build_datasets(config, pipeline.seed, work.out)
        if report.fingerprint != files:
            raise DataError(
                "the data changed while they were read; start again when the files are complete"
            )
        return report.metrics()

    files = fingerprint(config)
    parameters = config.model_dump(mode="json", exclude={"folder"})  # its content counts, not where
    spec = StageSpec(
        name="prepare",
        module=__name__,
        parameters={"data": parameters},
        external={"files": files},
        view=data_page,
    )
    return run_stage(spec, pipeline, learn)
