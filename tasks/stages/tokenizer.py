"""Tokenizer: trained on the corpus, or on a vocabulary's own texts where the data has some."""

from collections.abc import Mapping

from models.language.config import TokenizerConfig
from tasks.results.cache import token_folder
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace


@stage_task("tokenizer")
def train_tokenizer(
    config: TokenizerConfig, *, context: int, pipeline: PipelineRun, data: StageRef
) -> StageRef:
    """Publish a tokenizer folder with its chat template."""

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.language.tokenizer import train_tokenizer  # imports transformers

        data = work.inputs["corpus"]
        own = (data / "vocabulary.jsonl").exists()
        return train_tokenizer(
            corpus=data / ("vocabulary.jsonl" if own else "corpus_train.jsonl"),
            config=config,
            context=context,
            out=work.out / "tokenizer",
            cache=token_folder(
                work.cache, data, "vocabulary" if own else "corpus_", "models.token_files"
            ),
        )

    spec = StageSpec(
        name="tokenizer",
        module=__name__,
        parameters={"tokenizer": config.model_dump(mode="json"), "model": {"context": context}},
        inputs={"corpus": data},
    )
    return run_stage(spec, pipeline, learn)
