"""Tokenizer: a byte-level BPE trained on the corpus."""

from collections.abc import Mapping

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.configs.architecture import TokenizerConfig
from tasks.lineage import StageSpec
from tasks.pipeline_run import PipelineRun
from tasks.stage import Workspace, run_stage
from tasks.store import StageRef

__all__ = ["train_tokenizer"]


@task(name="tokenizer", task_run_name="tokenizer", cache_policy=NO_CACHE)
def train_tokenizer(
    config: TokenizerConfig, *, context: int, pipeline: PipelineRun, data: StageRef
) -> StageRef:
    """Publish a tokenizer folder with its chat template."""

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.tokenizer import train_tokenizer  # imports transformers: only where needed

        return train_tokenizer(
            corpus=work.inputs["corpus"] / "corpus_train.jsonl",
            config=config,
            context=context,
            out=work.out / "tokenizer",
        )

    spec = StageSpec(
        name="tokenizer",
        module=__name__,
        parameters={"tokenizer": config.model_dump(mode="json"), "model": {"context": context}},
        inputs={"corpus": data},
    )
    return run_stage(spec, pipeline, learn)
