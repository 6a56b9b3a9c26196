"""What a pretraining has learned from, to the token, and how fast: by step, source and size.

Beside the model it leaves `batches.jsonl` where batches grow or sources are mixed, `spikes.json`
where it was to recover from spikes. How fast it was depends on the machine, so it is no metric of
the training's: it lies with the checkpoints, as `pace.json`, and the stage adds it.

Sources: Hoffmann et al., Training Compute-Optimal Large Language Models (2022), table 3: about 20
tokens per parameter; Chowdhery et al., PaLM (2022), appendix B: model FLOPs utilisation.
"""

import logging
import time
from typing import Any

import torch
from transformers import TrainerCallback

from models.distributed.team import current_team
from models.families.flops import flops_per_token
from models.families.networks import parameter_count
from models.rows import write_json, write_rows
from models.runtime import TrainingRun, computes_mixed
from models.training.config import PretrainConfig
from models.training.order import Plan
from models.training.setup import GuardedTrainer
from models.training.spikes import RECORD

BATCHES = "batches.jsonl"
PACE = "pace.json"
CHINCHILLA = 20
"""Tokens per parameter that spend a budget of operations best, about."""
SIDE = {"cpu": 512, "cuda": 4096}
"""Of the square matrices that are multiplied to measure what a device can do."""
MEASURED_SECONDS = 0.03
MARKS = 10
"""Log lines of a training."""

logger = logging.getLogger(__name__)


def publish_account(
    plan: Plan, trainer: GuardedTrainer, config: PretrainConfig, run: TrainingRun
) -> dict[str, float]:
    """Write the records of a training that has ended, beside the folder of its model.

    Returns:
        Metrics: tokens learned from, also per parameter, and in the corpus; operations, attention's
        included; by source tokens and epochs, where sources are mixed; spikes and skipped batches,
        where it was to recover from them.
    """
    assert trainer.watch is not None
    skipped = trainer.watch.skipped
    learned = plan.learned(skipped)
    rate = flops_per_token(trainer.model, config.block_tokens)
    metrics = {
        "pretrain/tokens": float(learned.total()),
        "pretrain/tokens_per_parameter": learned.total() / parameter_count(trainer.model),
        "pretrain/corpus_tokens": float(sum(plan.lengths)),
        "pretrain/flops": learned.total() * rate.training,
    }
    if config.weights:
        metrics |= {
            f"pretrain/source_tokens/{name}": float(learned[name]) for name in config.weights
        }
        epochs = plan.epochs(skipped)
        metrics |= {f"pretrain/source_epochs/{name}": epochs[name] for name in config.weights}
    if config.spikes.recover:
        metrics["pretrain/spikes"] = float(len(trainer.watch.spikes))
        metrics["pretrain/skipped_batches"] = float(len(skipped))
    if current_team().leads:
        if config.weights or config.start_batch_size:
            write_rows(run.out.with_name(BATCHES), plan.rows(skipped))
        if config.spikes.recover:
            write_json(run.out.with_name(RECORD), trainer.watch.spikes)
    return metrics


class Pace(TrainerCallback):  # type: ignore[misc]
    """Follows how fast a training is: tokens per second, and the share of what the device can do.

    Held-out measurements, checkpoints and the first step are no part of it.
    """

    def __init__(self, plan: Plan, config: PretrainConfig, run: TrainingRun) -> None:
        self._plan, self._run = plan, run
        mixed = computes_mixed(run.device, config.precision) or config.precision == "bfloat16"
        self._dtype = torch.bfloat16 if mixed else torch.float32
        self._context = config.block_tokens
        self._tokens, self._seconds, self._began, self._warm = 0, 0.0, 0.0, False
        self._rate = self._flops = 0.0

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Measure what the device can do, and say how many tokens there will be."""
        self._flops = flops_per_token(model, self._context).training
        self._rate = multiplication_rate(self._run.device, self._dtype) * current_team().processes
        tokens, parameters = self._plan.learned(()).total(), parameter_count(model)
        logger.info(
            "%s tokens for %s parameters, %.3g per parameter (Chinchilla: about %d)",
            f"{tokens:,}", f"{parameters:,}", tokens / parameters, CHINCHILLA,
        )  # fmt: skip
        self._warm = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step; log a line now and then."""
        step = state.global_step
        if self._warm:
            self._seconds += time.perf_counter() - self._began
            self._tokens += self._plan.tokens(step).total()
        self._warm = True
        every = max(1, state.max_steps // MARKS)
        if self._seconds and step % every == 0:
            left = sum(
                self._plan.tokens(one).total() for one in range(step + 1, state.max_steps + 1)
            )
            logger.info(
                "%s tokens/s, %.0f%% of the device's matrix multiplication, %.0f s left",
                f"{self._tokens_per_second:,.0f}", 100 * self._utilisation,
                left / self._tokens_per_second,
            )  # fmt: skip

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep what was measured, if anything was."""
        if self._seconds and current_team().leads:
            write_json(
                self._run.checkpoints / PACE,
                {
                    "tokens_per_second": self._tokens_per_second,
                    "model_flops_utilisation": self._utilisation,
                },
            )

    @property
    def _tokens_per_second(self) -> float:
        return self._tokens / self._seconds

    @property
    def _utilisation(self) -> float:
        return self._tokens_per_second * self._flops / self._rate


def multiplication_rate(device: str, dtype: torch.dtype) -> float:
    """Measure how fast a device multiplies matrices, operations per second; the fastest counts."""
    side = SIDE.get(device.split(":")[0], SIDE["cuda"])
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    fastest = 0.0
    started = time.perf_counter()
    while not fastest or time.perf_counter() - started < MEASURED_SECONDS:
        began = time.perf_counter()
        matrix @ matrix
        if device != "cpu":
            torch.cuda.synchronize()
        fastest = max(fastest, 2 * side**3 / (time.perf_counter() - began))
    return fastest
