"""Foundations data: texts, translations and tasks that families of models are compared on."""

from collections.abc import Mapping

from models.errors import DataError
from tasks.data.foundations.build import build_foundations
from tasks.data.foundations.config import FOLDERS, FoundationsDataConfig
from tasks.data.foundations.folders import fingerprint
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace


@stage_task("foundations-data")
def prepare_foundations(config: FoundationsDataConfig, *, pipeline: PipelineRun) -> StageRef:
    """Publish what every other stage of the flow reads.

    Raises:
        DataError: A folder or file is not what was wanted.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        metrics = build_foundations(config, pipeline.seed, work.out)
        if fingerprint(config) != files:
            raise DataError(
                "the data changed while they were read; start again when the files are complete"
            )
        return metrics

    files = fingerprint(config)
    spec = StageSpec(
        name="foundations-data",
        module=__name__,
        parameters={"data": config.model_dump(mode="json", exclude=set(FOLDERS))},
        external={"files": files},
    )
    return run_stage(spec, pipeline, learn)
