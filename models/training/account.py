"""What a pretraining has learned from, to the token: by step, by source, and against its size.

Called when a training has ended. Beside the model it leaves `batches.jsonl` where batches grow or
sources are mixed, and `spikes.json` where it was to recover from spikes.
"""

from models.distributed.team import current_team
from models.families.flops import flops_per_token
from models.rows import write_json, write_rows
from models.runtime import TrainingRun
from models.training.config import PretrainConfig
from models.training.order import Plan
from models.training.setup import GuardedTrainer
from models.training.spikes import RECORD

BATCHES = "batches.jsonl"


def publish_account(
    plan: Plan, trainer: GuardedTrainer, config: PretrainConfig, run: TrainingRun
) -> dict[str, float]:
    """Write the records of a training that has ended, beside the folder of its model.

    Returns:
        Metrics: tokens learned from and in the corpus; operations, attention's included; by source
        tokens and epochs, where sources are mixed; spikes and skipped batches, where it was to
        recover from them.
    """
    assert trainer.watch is not None
    skipped = trainer.watch.skipped
    learned = plan.learned(skipped)
    rate = flops_per_token(trainer.model, config.block_tokens)
    metrics = {
        "pretrain/tokens": float(learned.total()),
        "pretrain/corpus_tokens": float(sum(plan.lengths)),
        "pretrain/flops": learned.total() * rate.training,
    }
    if config.weights:
        metrics |= {f"pretrain/tokens/{name}": float(learned[name]) for name in config.weights}
        epochs = plan.epochs(skipped)
        metrics |= {f"pretrain/epochs/{name}": epochs[name] for name in config.weights}
    if config.spikes.recover:
        metrics["pretrain/spikes"] = float(len(trainer.watch.spikes))
        metrics["pretrain/skipped_batches"] = float(len(skipped))
    if current_team().leads:
        if config.weights or config.start_batch_size:
            write_rows(run.out.with_name(BATCHES), plan.rows(skipped))
        if config.spikes.recover:
            write_json(run.out.with_name(RECORD), trainer.watch.spikes)
    return metrics
