"""Select: the documents of a corpus that are worth training on."""

from collections.abc import Mapping

from tasks.data.selection.config import SelectionConfig
from tasks.data.selection.selecting import select_corpus
from tasks.reports.foundations.selection import selection_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace


@stage_task("select")
def select(config: SelectionConfig, *, pipeline: PipelineRun, data: StageRef) -> StageRef:
    """Publish the folder of the data again, with a smaller training corpus.

    Raises:
        DataError: No document is left.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        return select_corpus(work.inputs["corpus"], work.out, config)

    spec = StageSpec(
        name="select",
        module=__name__,
        parameters={"selection": config.model_dump(mode="json")},
        inputs={"corpus": data},
        view=selection_page,
    )
    return run_stage(spec, pipeline, learn)
