"""Tokenizer: a byte-level BPE trained on the corpus."""

from collections.abc import Mapping

from models.language.config import TokenizerConfig
from tasks.results.cache import token_folder
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage, stage_task
from tasks.run.workspace import Workspace


@stage_task("tokenizer")
def train_tokenizer(
    config: TokenizerConfig,
    *,
    context: int,
    pipeline: PipelineRun,
    data: StageRef,
    texts: str = "corpus_train",
) -> StageRef:
    """Publish a tokenizer folder with its chat template.

    Args:
        texts: Name of the file of texts that it is trained on.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.language.tokenizer import train_tokenizer  # imports transformers

        return train_tokenizer(
            corpus=work.inputs["corpus"] / f"{texts}.jsonl",
            config=config,
            context=context,
            out=work.out / "tokenizer",
            cache=token_folder(work.cache, work.inputs["corpus"], "corpus_"),
        )

    given = {} if texts == "corpus_train" else {"texts": texts}
    spec = StageSpec(
        name="tokenizer",
        module=__name__,
        parameters={
            "tokenizer": config.model_dump(mode="json") | given,
            "model": {"context": context},
        },
        inputs={"corpus": data},
    )
    return run_stage(spec, pipeline, learn)
