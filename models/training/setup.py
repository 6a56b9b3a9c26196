"""The settings that pretraining, SFT and reward modelling share, and a Trainer that stops in time.

Trainers save a checkpoint every so many steps and at the end, seal it, and resume from the newest
intact one. Nothing they do draws random numbers (the order of rows is made beforehand, there is no
dropout), so a run that was killed and resumed ends with the same bits as one that was not.

In a team of processes each optimiser step learns from the same rows as in one process. They are
dealt to the members in turn; a member's loss is its rows' part of the whole batch's mean, and
losses and gradients are summed. So steps, learning rates and checkpoints do not depend on the
number of members, and a checkpoint of one number is resumed by any other.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback

from models.checkpoints import latest
from models.distributed.gradients import sum_over_team
from models.distributed.interruption import Interruption
from models.distributed.sharding import is_sharded, shard, total_norm
from models.distributed.team import current_team
from models.errors import DivergedError, ParameterError
from models.language.reading import without_progress_bars
from models.progress import told
from models.randomness import derive_seed
from models.runtime import TrainingRun, computes_mixed
from models.training.adapters import has_adapter
from models.training.callbacks import HeldOutCallback, LogCallback, SealCallback, StopCallback
from models.training.config import OptimiserSettings, SpikeConfig
from models.training.memory import (
    MasterTrainer,
    forget_gradients,
    learned_weights,
    recompute_activations,
    restore_float32,
)
from models.training.saving import SavingTrainer
from models.training.spikes import SpikeError, SpikeWatch, WatchedTrainer

T = TypeVar("T")

IGNORED_LABEL = -100


class GuardedTrainer(WatchedTrainer, MasterTrainer, SavingTrainer):
    """A Trainer of micro-batches, alone or in a team, that stops at a loss that is not finite.

    Mixed in front of TRL's trainers as well. It also writes no model cards and reports nothing.
    """

    def __init__(
        self,
        *,
        config: OptimiserSettings,
        model: Any,
        steps: Sequence[Sequence[int]] | None = None,
        decay_embeddings: bool = True,
        **settings: Any,
    ) -> None:
        """Take a config, a model, and what transformers' Trainer takes.

        Args:
            steps: The rows of each optimiser step, by number; without them each step takes the
                next `config.batch_size` rows.
            decay_embeddings: Whether weight decay acts on embeddings too.
        """
        self._steps = steps
        self.decay_embeddings = decay_embeddings
        self.tokens_per_microbatch = config.tokens_per_microbatch
        if config.gradient_checkpointing:
            recompute_activations(model)
        self.has_masters = config.precision == "bfloat16" and not has_adapter(model)
        if not has_adapter(model):  # a frozen model stays whole in each process
            self._spread(model)
        super().__init__(model=model, **settings)

    def accumulate(
        self, parts: Sequence[T], compute_loss: Callable[[T], torch.Tensor]
    ) -> torch.Tensor:
        """Add the losses of micro-batches, for `compute_loss` to return.

        All but the last are backpropagated here, each before the next one is computed: activations
        exist of one at a time.

        Args:
            parts: The micro-batches, at least one.
            compute_loss: Gives a micro-batch's share of the batch's loss.

        Returns:
            The sum, with the last one's gradient.
        """
        for _ in range(_missing_parts(len(parts))):
            self.accelerator.backward(0.0 * compute_loss(parts[0]))
        total, what = compute_loss(parts[0]), f"step {self.state.global_step + 1}"
        for part in told(parts[1:], what, len(parts) - 1, "more micro-batches"):
            self.accelerator.backward(total)
            total = total.detach() + compute_loss(part)
        return total

    def create_accelerator_and_postprocess(self) -> None:
        """Let accelerate wrap the model in nothing: gradients are summed here.

        Its wrapper would hide the model's own attributes, and a call of a part of the model would
        pass it by: such gradients would stay different in each process, without a word.
        """
        shards, self.model._tp_size = self.model._tp_size, None  # or accelerate shares rows out too
        super().create_accelerator_and_postprocess()
        self.model._tp_size = shards
        prepare_model = self.accelerator.prepare_model
        self.accelerator.prepare_model = partial(prepare_model, evaluation_mode=True)

    def get_train_dataloader(self) -> Any:
        """Read whole batches; in a team, lay out this member's rows of each."""
        if self._steps is None and self.args.world_size == 1:
            return super().get_train_dataloader()
        planned = {"batch_size": self.args.train_batch_size}
        return DataLoader(
            self.train_dataset,
            collate_fn=self._collate_share,
            pin_memory=self.args.dataloader_pin_memory,
            **(planned if self._steps is None else {"batch_sampler": self._steps}),
        )

    def collate(self, rows: list[Any], of: int) -> Any:
        """Lay out some rows of a batch of `of` rows."""
        return self.data_collator(rows)

    def without_effect(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make a row that can be computed and counts for nothing."""
        return {**row, "labels": [IGNORED_LABEL] * len(row["labels"])}

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Compute loss and gradients of one step; weights have not moved yet.

        Raises:
            DivergedError: The loss or a gradient is NaN or infinite, in all members at once.
            SpikeError: The loss leaps, and `train` is to recover from that.
        """
        step = self.state.global_step + 1
        if self.watch is not None and step in self.watch.skipped:
            return torch.zeros((), device=self.args.device)  # and no gradient: no weight moves
        loss = super().training_step(model, inputs, num_items_in_batch)
        gradients = [one.grad for one in learned_weights(model) if one.grad is not None]
        if is_sharded(model):  # whose gradients are summed already
            sum_over_team([loss])
            norm = total_norm(gradients)
        else:
            sum_over_team([loss, *gradients])
            norm = torch.nn.utils.get_total_norm(gradients)
        finite = bool(torch.isfinite(loss + norm))
        if self.watch is not None:
            self.watch.judge(step, float(loss), finite)
        if not finite:
            self._stop(float(loss), float(norm))
        return loss

    def _spread(self, model: Any) -> None:
        if self.has_masters and current_team().shards:
            raise ParameterError(
                "precision is bfloat16, whose optimiser holds masters of whole weights, but "
                "models are spread over processes (QUARTET_SHARDING or QUARTET_TENSOR_PARALLEL); "
                "choose precision auto or float32, or sharding replicate"
            )
        shard(model)

    def _collate_share(self, rows: list[Any]) -> Any:
        team = current_team()
        mine = rows[team.rank :: team.size]
        # A member without a row takes part all the same: some models talk while they compute.
        return self.collate(mine or [self.without_effect(rows[0])], of=len(rows))

    def _get_num_items_in_batch(self, *args: Any) -> Any:
        """Count what the loss is the mean of, in the whole batch."""
        own = super()._get_num_items_in_batch(*args)
        # Trainer has divided it by the processes that share their rows.
        return own if own is None else current_team().total(own * self.get_tp_size())

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: checkpoints are private, and published folders carry their lineage."""

    def _send_telemetry(self) -> None:
        """Send none: TRL's trainers report their use to the hub by default."""

    def _stop(self, loss: float, norm: float) -> None:
        """Save and seal the state before this step, which is still sound, and raise."""
        step = self.state.global_step
        self._save_checkpoint(self.model, trial=None)
        self.callback_handler.on_save(self.args, self.state, self.control)
        last = self.state.log_history[-1] if self.state.log_history else {}
        raise DivergedError(
            f"the loss is {loss} and its gradient's norm {norm} at step {step + 1}, wanted finite "
            f"numbers; last metrics: {last}; the state before is in checkpoint-{step}; lower "
            "learning_rate or max_grad_norm, or look for broken rows"
        )


def _missing_parts(parts: int) -> int:
    """How many more micro-batches another member has, where all must compute equally often."""
    team = current_team()
    return int(team.greatest(torch.tensor(parts))) - parts if team.in_step else 0


def trainer_settings(
    config: OptimiserSettings, run: TrainingRun, *, stage: str, steps: int
) -> dict[str, Any]:
    """Arguments of TrainingArguments, SFTConfig and RewardConfig alike.

    Trainer seeds global state; nothing should depend on it.
    """
    on_cpu = run.device == "cpu"
    return {
        "output_dir": str(run.checkpoints),
        "max_steps": steps,
        "per_device_train_batch_size": config.batch_size,  # of the team: see GuardedTrainer
        "average_tokens_across_devices": False,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "warmup_steps": round(config.warmup_ratio * steps),
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-8,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "train_sampling_strategy": "sequential",
        "save_strategy": "steps",
        "save_steps": config.checkpoint_steps,
        "save_on_each_node": True,  # hosts share no disk
        "logging_steps": 1,  # LogCallback makes the means
        "logging_nan_inf_filter": False,
        "report_to": [],
        "disable_tqdm": not sys.stderr.isatty(),
        "seed": derive_seed(run.seed, stage) % 2**32,
        "use_cpu": on_cpu,
        "bf16": computes_mixed(run.device, config.precision),
        "fp16": False,
        "activation_checkpointing": False,  # GuardedTrainer turns it on, where it is wanted
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": not on_cpu,
    }


def train(
    trainer: Any,
    run: TrainingRun,
    *,
    stage: str,
    measure: Callable[[Any], Mapping[str, float]],
    spikes: SpikeConfig = SpikeConfig(),
) -> None:
    """Train to the end, from the newest intact checkpoint if there is one; weights end in float32.

    A signal waits for the end of the current step; then a checkpoint is saved, and the signal takes
    effect. While held-out rows are measured, right after a checkpoint, it takes effect at once.

    Args:
        measure: Measures the model on held-out rows, at every checkpoint but the last.
        spikes: Whether and how to recover from a loss that leaps; see `models.training.spikes`.

    Raises:
        DivergedError: The loss is not finite, or there are more spikes than were to be recovered.
        KeyboardInterrupt: A signal stopped the training, and its handler raised nothing.
    """
    team = current_team()
    trainer.remove_callback(PrinterCallback)
    # One process, one device: on a host with several, Trainer would multiply the batch by them.
    trainer.args._n_gpu = min(1, trainer.args.n_gpu)
    means = LogCallback(stage, run.log)
    watch = trainer.watch = SpikeWatch(spikes, trainer, stage, run.log)
    (start, *_) = team.gather(None if team.rank else latest(run.checkpoints))
    if start is not None:
        means.resume(start)
        watch.resume(start)
    with Interruption() as interruption, without_progress_bars():
        trainer.add_callback(means)
        trainer.add_callback(watch)
        trainer.add_callback(SealCallback(run.checkpoints, behind=watch.reach))
        trainer.add_callback(HeldOutCallback(measure, run.log, interruption))
        trainer.add_callback(StopCallback(interruption))
        with interruption.held():
            while True:
                try:
                    trainer.train(resume_from_checkpoint=None if start is None else str(start))
                    break
                except SpikeError:
                    forget_gradients(trainer.model)
                    start = watch.go_back(run.checkpoints)
                    means.resume(start)
    restore_float32(trainer.model)
    if trainer.state.global_step < trainer.state.max_steps:
        raise KeyboardInterrupt(
            "the training was stopped before its last step, saved at step "
            f"{trainer.state.global_step} of {trainer.state.max_steps}; run it again to resume"
        )
