"""Prepare: files, hub or the embedded generator -> canonical datasets and a quality report."""

from collections.abc import Mapping

from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.sources import fingerprint
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import show_markdown
from tasks.run.spec import StageSpec
from tasks.run.stage import Workspace, run_stage
from tasks.run.stage_task import stage_task
from tasks.settings import load_settings


@stage_task("prepare")
def prepare(config: DataConfig, *, pipeline: PipelineRun) -> StageRef:
    """Publish the datasets that every later stage reads.

    Raises:
        DataError: A file or a row is not what a stage can learn from.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        return build_datasets(config, pipeline.seed, work.out).metrics()

    parameters = config.model_dump(mode="json", exclude={"folder"})  # its content counts, not where
    spec = StageSpec(
        name="prepare",
        module=__name__,
        parameters={"data": parameters},
        external={"files": fingerprint(config)},
    )
    ref = run_stage(spec, pipeline, learn)
    report = Store(load_settings().store).folder(ref.stage, ref.digest) / "quality.md"
    show_markdown("data-quality", report.read_text(encoding="utf-8"), "What was kept and why not")
    return ref
