"""Recovery from spikes of the training loss: go back, leave out the batches, continue.

Every step's loss is compared with the median of the recent ones before weights move. Where it
leaps, training goes back to a sealed checkpoint from before the spike, and the batches of the spike
are skipped: their steps move no weight, while learning rate and batch of all other steps stay what
they were. (PaLM went back 100 steps, and the batches behind the skipped ones moved up.) Where the
loss leaps right behind skipped batches, those before them caused it: as many more are skipped.

What is decided follows from the losses alone, and what it needs is sealed with every checkpoint. So
a run that is killed at any moment decides the same again, and ends with the same bits.

Source: Chowdhery et al., PaLM (2022), section 5.1.
"""

import json
import logging
import math
import shutil
import statistics
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from models.checkpoints import checkpoint_step, checkpoints, is_intact, latest
from models.distributed.team import current_team
from models.errors import DivergedError
from models.runtime import Log
from models.training.config import SpikeConfig

RECORD = "spikes.json"
NORMAL = 1.4826
"""Of a median absolute deviation: the standard deviation of a normal distribution."""
LEAST_DEVIATION, LEAST_NATS = 0.03, 0.01
"""As a share of the median, and in nats: steadier losses count as if they deviated so much. Near
zero, which a small corpus can reach, a loss leaps to ten times its median without any harm."""

logger = logging.getLogger(__name__)


class SpikeError(Exception):
    """Ends a training step at a spike; `train` catches it and goes back."""


class SpikeWatch(TrainerCallback):  # type: ignore[misc]
    """Watches a training's losses, and remembers what is skipped.

    Attributes:
        spikes: What was found, in order: step, loss, median and bound, the checkpoint from which
            the training continued, the batches that are skipped since.
    """

    def __init__(self, config: SpikeConfig, trainer: Any, stage: str, log: Log) -> None:
        """Watch the trainer's steps if `config.recover` says so."""
        self.spikes: list[dict[str, Any]] = []
        self._config, self._trainer, self._stage, self._log = config, trainer, stage, log
        self._losses: list[float] = []
        self._high: list[int] = []

    @property
    def skipped(self) -> Collection[int]:
        """Steps, counted from 1, that move no weight."""
        return {step for spike in self.spikes for step in spike["skipped"]}

    @property
    def reach(self) -> int:
        """How many steps before the newest checkpoint a spike may begin."""
        return self._config.patience - 1 + self._config.batches_before

    def judge(self, step: int, loss: float, finite: bool) -> None:
        """Compare the loss of a step, counted from 1, with those before.

        Args:
            loss: Of the whole batch, the same in all members of a team.
            finite: Whether it and its gradient are.

        Raises:
            SpikeError: It belongs to a spike; no weight has moved yet.
            DivergedError: It is one spike too many.
        """
        if not self._config.recover:
            return
        median, bound = self._bound()
        if not current_team().agree(not finite or loss > bound):
            self._losses = [*self._losses, loss][-self._config.window :]
            self._high = []
            return
        self._high.append(step)
        if finite and len(self._high) < self._config.patience:
            return
        if len(self.spikes) == self._config.most:
            raise DivergedError(
                f"the loss is {loss} at step {step}, spike {len(self.spikes) + 1} of a training "
                f"that was to recover from at most {self._config.most}; lower learning_rate, look "
                "for broken rows or raise spikes.most"
            )
        first = max(1, self._reach_back(self._high[0]) - self._config.batches_before)
        skipped = [one for one in range(first, step + 1) if one not in self.skipped]
        spike = {"step": step, "loss": loss, "median": median, "bound": bound, "skipped": skipped}
        self.spikes.append(spike)
        raise SpikeError

    def _reach_back(self, high: int) -> int:
        """Where a spike began: at its first high loss, or before what is skipped right before it.

        There it reaches as far back as that is long.
        """
        first = high
        while first - 1 in self.skipped:
            first -= 1
        return first - (high - first)

    def go_back(self, parent: Path) -> Path:
        """Delete the checkpoints that a spike has reached, but for the oldest.

        Args:
            parent: Folder of the checkpoints.

        Returns:
            The newest intact one from before the spike, to resume from.

        Raises:
            DivergedError: There is none.
        """
        spike, team = self.spikes[-1], current_team()
        high = self._high[0] - self._config.batches_before
        kept = [checkpoint_step(one) for one in checkpoints(parent) if is_intact(one)]
        (oldest, *_) = team.gather(min(kept, default=0))
        before = max(spike["skipped"][0], min(high, oldest + 1))
        spike["skipped"] = [step for step in spike["skipped"] if step >= before]
        if team.keeps:
            for folder in reversed(checkpoints(parent)):
                if checkpoint_step(folder) >= before:
                    shutil.rmtree(folder)
        team.wait()
        start = latest(parent)
        if start is None:
            raise DivergedError(
                f"the loss is {spike['loss']} at step {spike['step']}, and no intact checkpoint in "
                f"{parent} is from before; start again with a lower learning_rate"
            )
        spike["resumed_from"] = checkpoint_step(start)
        logger.warning(
            "%s: the loss leapt to %.4g at step %d (median %.4g before); back to step %d, "
            "skipping the batches of steps %d to %d",
            self._stage, spike["loss"], spike["step"], spike["median"], spike["resumed_from"],
            before, spike["step"],
        )  # fmt: skip
        self._log(
            {
                f"{self._stage}/spike_loss": spike["loss"],
                f"{self._stage}/skipped_batches": float(len(self.skipped)),
            },
            spike["step"],
        )
        found = self.spikes
        self.resume(start)
        self.spikes = found
        return start

    def resume(self, checkpoint: Path) -> None:
        """Take over what a checkpoint knows."""
        if (checkpoint / RECORD).exists():
            known = json.loads((checkpoint / RECORD).read_text(encoding="utf-8"))
            self.spikes, self._losses, self._high = (known[name] for name in _KEPT)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and seal the state before the first step: a spike may come before a checkpoint."""
        start = Path(args.output_dir) / "checkpoint-0"
        if self._config.recover and state.global_step == 0 and not is_intact(start):
            self._trainer._save_checkpoint(self._trainer.model, trial=None)
            self._trainer.callback_handler.on_save(args, state, control)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save what was found with the checkpoint; called before it is sealed."""
        if self._config.recover and current_team().keeps:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            known = dict(zip(_KEPT, (self.spikes, self._losses, self._high), strict=True))
            (folder / RECORD).write_text(json.dumps(known), encoding="utf-8")

    def _bound(self) -> tuple[float, float]:
        """Median of the recent losses, and where a spike begins; infinite with too few of them."""
        if len(self._losses) < self._config.window:
            return math.nan, math.inf
        median = statistics.median(self._losses)
        deviation = NORMAL * statistics.median(abs(loss - median) for loss in self._losses)
        least = max(LEAST_DEVIATION * abs(median), LEAST_NATS)
        return median, median + self._config.deviations * max(deviation, least)


class WatchedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that logs nothing of the steps that move no weight.

    Attributes:
        watch: What `train` lets look for spikes.
    """

    watch: SpikeWatch | None = None

    def log(self, logs: dict[str, float], *args: Any) -> None:
        """Leave out what a skipped step has not got."""
        if self.watch is not None and self.state.global_step in self.watch.skipped:
            logs = {name: one for name, one in logs.items() if name not in ("loss", "grad_norm")}
        super().log(logs, *args)


_KEPT = ("spikes", "losses", "high")
