"""N-gram: how well counts alone predict the held-out texts."""

from collections.abc import Mapping

from models.rows import write_json
from models.yardsticks.config import NgramConfig
from tasks.results.cache import token_folder
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace


@stage_task("ngram")
def measure_ngram(
    config: NgramConfig, *, pipeline: PipelineRun, data: StageRef, tokenizer: StageRef
) -> StageRef:
    """Publish the loss of an n-gram model on the tokens that neural models are measured on."""

    def learn(work: Workspace) -> Mapping[str, float]:
        import numpy as np

        from models.language.folders import load_tokenizer  # imports transformers
        from models.language.likelihood import HeldOutLoss
        from models.token_files import open_tokens
        from models.yardsticks.ngram import NgramModel

        folder = work.inputs["corpus"]
        encoder = load_tokenizer(work.inputs["tokenizer"] / "tokenizer")
        cache = token_folder(work.cache, folder, "corpus_", "models.token_files")
        corpus, heldout = (
            open_tokens(encoder, folder / f"corpus_{part}.jsonl", cache)
            for part in ("train", "heldout")
        )
        model = NgramModel(
            corpus.read(0, corpus.tokens),
            order=config.order,
            vocab_size=len(encoder),
            eos=encoder.eos_token_id,
        )
        probabilities = model.probabilities(heldout.read(0, heldout.tokens))
        loss = HeldOutLoss(
            nll_sum=-float(np.log(probabilities).sum()),
            token_count=heldout.tokens,
            byte_count=heldout.text_bytes,
        )
        metrics = {
            "ngram/heldout_loss": loss.mean,
            "ngram/perplexity": loss.perplexity,
            "ngram/bits_per_byte": loss.bits_per_byte,
            "ngram/corpus_tokens": float(corpus.tokens),
            "ngram/parameters": float(model.gram_count),
        }
        discounts = [one.discounts.tolist() for one in model.orders]
        write_json(work.out / "results.json", {**metrics, "discounts": discounts})
        return metrics

    spec = StageSpec(
        name="ngram",
        module=__name__,
        parameters={"ngram": config.model_dump(mode="json")},
        inputs={"corpus": data, "tokenizer": tokenizer},
    )
    return run_stage(spec, pipeline, learn)
