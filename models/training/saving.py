"""What checkpoints hold beyond what transformers' Trainer saves: adapters alone, spread models.

The weights of a model that is spread over processes lie in a checkpoint as one whole model, and so
they load into whole models and into parts alike. The optimiser's state is written by each process
for its own part, in the form of torch's distributed checkpoints, by names of weights: any number
of processes reads it. Trainer itself would refuse both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from transformers import Trainer
from transformers.distributed.checkpoint import (
    load_optimizer_distributed,
    save_optimizer_distributed,
)
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from models.distributed.sharding import gathered_state, is_sharded
from models.errors import ModelError
from models.training.adapters import has_adapter, learned_state, load_learned_state

LEARNED = "learned.safetensors"
"""In a checkpoint: the weights that learn, where only an adapter does."""
OPTIMIZER = "optimizer"
"""Folder in a checkpoint: the optimiser's state of a model that is spread over processes."""


@contextmanager
def _own_names(model: Any) -> Iterator[None]:
    """Let a model save its weights under the names that it has, for a checkpoint.

    Models of experts are published in the layout of their first release, expert by expert, which
    only `from_pretrained` reads.
    """
    model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
    try:
        yield
    finally:
        del model.save_pretrained


class SavingTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that saves the adapter where only that learns, and models that are spread."""

    decay_embeddings = True
    """Whether weight decay acts on embeddings."""

    def __init__(self, **settings: Any) -> None:
        settings["args"].save_only_model = is_sharded(settings["model"])  # the rest is saved here
        super().__init__(**settings)

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Weights that decay: no norms, no biases, and embeddings only if they are to."""
        names: list[str] = super().get_decay_parameter_names(model)
        if self.decay_embeddings:
            return names
        tables = [one for one in model.modules() if isinstance(one, torch.nn.Embedding)]
        embeddings = {id(weight) for table in tables for weight in table.parameters()}
        weights = dict(model.named_parameters(remove_duplicate=False))
        return [name for name in names if id(weights[name]) not in embeddings]

    def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
        if not has_adapter(self.model):
            with gathered_state(self.model) as state, _own_names(self.model):
                super()._save(output_dir, state_dict if state is None else state)
        elif self.args.should_save:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_file(learned_state(self.model), Path(output_dir) / LEARNED)

    def _load_from_checkpoint(self, resume_from_checkpoint: Any, model: Any = None) -> None:
        checkpoint = Path(resume_from_checkpoint)
        if has_adapter(self.model):
            load_learned_state(self.model, load_file(checkpoint / LEARNED))
        elif is_sharded(self.model):
            state: dict[str, Any] = {}
            for file in sorted(checkpoint.glob("*.safetensors")):
                state |= load_file(file)
            # Weights that are tied to others are saved once.
            options = StateDictOptions(full_state_dict=True, strict=False)
            set_model_state_dict(self.model, state, options=options)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Refuse weights that the model does not know: Trainer would leave the model as it was."""
        if unknown := load_result.unexpected_keys:
            raise ModelError(
                f"the checkpoint holds weights that the model lacks, such as {unknown[0]} "
                f"({len(unknown)} in all), wanted the model's own; delete the stage's checkpoints "
                "and start it again"
            )
        super()._issue_warnings_after_load(load_result)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        if is_sharded(self.model):
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            save_optimizer_distributed(self.model, self._inner(), str(folder / OPTIMIZER))
            if self.args.should_save:
                torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        if checkpoint is None:
            return
        spread = Path(checkpoint) / OPTIMIZER
        if not spread.is_dir() and not is_sharded(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        if spread.is_dir():
            load_optimizer_distributed(self.model, self._inner(), str(spread))
        else:
            self._take_part_of(
                torch.load(spread.with_name(OPTIMIZER_NAME), "cpu", weights_only=True)
            )
        schedule = torch.load(spread.with_name(SCHEDULER_NAME), weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)

    def _take_part_of(self, saved: dict[str, Any]) -> None:
        """Take this process's part of the state that the optimiser of a whole model had."""
        decays = self.get_decay_parameter_names(self.model)
        names = [name for name, weight in self.model.named_parameters() if weight.requires_grad]
        names.sort(key=lambda name: name not in decays)  # as Trainer gives them to optimisers
        numbers = [number for group in saved["param_groups"] for number in group["params"]]
        named = dict(zip(numbers, names, strict=True))
        state: dict[str, Any] = {
            "state": {named[number]: one for number, one in saved["state"].items()},
            "param_groups": [
                {**group, "params": [named[number] for number in group["params"]]}
                for group in saved["param_groups"]
            ],
        }
        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(self.model, self._inner(), state, options=options)

    def _inner(self) -> Any:
        """The optimiser itself, which accelerate wraps."""
        return getattr(self.optimizer, "optimizer", self.optimizer)
