"""Adapters (LoRA): low-rank additions to frozen weights, which alone learn.

What SFT, reward modelling and PPO share. A network with an adapter stays the transformers model
that it was; a score head beside the trunk learns as a whole. Checkpoints hold what learns. What is
published is the merged model, which nothing that reads it can tell from a fully trained one, and
beside it the adapter in peft's own format, with a note of the weights that it belongs on.

There is no dropout: PPO needs equal logprobs from equal weights.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2021).
"""

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from models.distributed.parts import spread
from models.distributed.team import current_team
from models.families.scorers import score_head
from models.language.config import LoRAConfig
from models.language.folders import save_model
from models.training.memory import master_of

NAME = "default"
"""Of the one adapter of a network."""

WEIGHTS = "adapter_model.safetensors"
BASE = "base_weights.json"
"""Beside a saved adapter: the digest of the weights that it belongs on."""

PREFIX = "base_model.model."
"""What peft puts before every name in a saved adapter."""


def add_adapter(network: Any, config: LoRAConfig, *, seed: int) -> None:
    """Freeze a network and put an adapter on every linear layer of its trunk.

    The adapter's output is zero at first. A score head stays set to learn.

    Args:
        network: A causal language model or a reward model of transformers.
        seed: Of the first weights.
    """
    with torch.random.fork_rng(devices=[]):  # peft draws on the CPU
        torch.manual_seed(seed)
        _inject(
            network,
            LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                target_modules="all-linear",
                task_type="CAUSAL_LM" if _head(network) is None else "SEQ_CLS",
                fan_in_fan_out=any(isinstance(one, Conv1D) for one in network.modules()),  # GPT-2
            ),
        )


def has_adapter(network: Any) -> bool:
    """Whether `add_adapter` or `load_adapter` has put one on the network."""
    return bool(getattr(network, "_hf_peft_config_loaded", False))


def save_adapter(network: Any, folder: Path, *, base: Path) -> None:
    """Write a network's adapter in peft's format, with its score head if there is one.

    Args:
        base: Model folder that the adapter belongs on.
    """
    head = _head(network)
    learned = get_peft_model_state_dict(network, adapter_name=NAME, save_embedding_layers=False)
    if head is not None:
        learned |= head.state_dict(prefix="score.")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in learned.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = copy.copy(network.peft_config[NAME])
    for targets in ("target_modules", "target_parameters"):  # sets, whose order is anyone's guess
        if getattr(config, targets):
            setattr(config, targets, sorted(getattr(config, targets)))
    config.modules_to_save = None if head is None else ["score"]
    config.base_model_name_or_path = str(base)
    config.inference_mode = True
    config.save_pretrained(folder)
    note = {"sha256": weights_digest(base)}
    (folder / BASE).write_text(json.dumps(note) + "\n", encoding="utf-8")


def load_adapter(network: Any, folder: Path) -> None:
    """Put an adapter that `save_adapter` wrote on its base network, set to learn."""
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode, config.modules_to_save = False, None  # the head is loaded below
    _inject(network, config)
    tensors = load_file(folder / WEIGHTS)
    set_peft_model_state_dict(
        network, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}, NAME
    )
    head = _head(network)
    if head is not None:
        start = f"{PREFIX}score."
        head.load_state_dict(
            {
                name.removeprefix(start): tensor
                for name, tensor in tensors.items()
                if name.startswith(start)
            }
        )


def belongs_on(folder: Path, base: Path) -> bool:
    """Whether an adapter was saved there that learned on the very weights of a model folder."""
    note = folder / BASE
    if not note.is_file():
        return False
    saved: str = json.loads(note.read_text(encoding="utf-8"))["sha256"]
    return saved == weights_digest(base)


def weights_digest(folder: Path) -> str:
    """Hash the safetensors files of a model folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def adapter_folder(model: Path) -> Path:
    """Where the adapter of a published model lies."""
    return model.with_name(f"{model.name}_adapter")


def publish(
    network: Any, tokenizer: Any, folder: Path, *, base: Path, load: Callable[[Path], Any]
) -> None:
    """Write a network as a complete model; one with an adapter is merged, the adapter kept beside.

    Args:
        folder: Where the model goes; an adapter goes to its `adapter_folder`.
        base: Model folder that the adapter belongs on.
        load: Reads that folder as a network of the same kind without an adapter.
    """
    if not has_adapter(network):
        save_model(network, tokenizer, folder)
        return
    team, adapter = current_team(), adapter_folder(folder)
    if team.keeps:
        save_adapter(network, adapter, base=base)
    team.wait()
    merged = PeftModel.from_pretrained(load(base), str(adapter)).merge_and_unload()
    save_model(merged, tokenizer, folder)


def share_weights(network: Any) -> Any:
    """Copy a network without copying its weights: both hold the same tensors.

    Only frozen weights may be shared. A score head, which learns beside an adapter, is copied.
    """
    head = _head(network)
    own = set() if head is None else set(map(id, head.parameters()))
    shared = {id(weight): weight for weight in network.parameters() if id(weight) not in own}
    return copy.deepcopy(network, shared)


def learned_state(network: Any) -> dict[str, torch.Tensor]:
    """The weights that learn, or their masters, by name; the tensors themselves, not copies."""
    return {name: master_of(p) for name, p in network.named_parameters() if p.requires_grad}


@torch.no_grad()
def load_learned_state(network: Any, state: dict[str, torch.Tensor]) -> None:
    """Put weights of `learned_state` back."""
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            master = master_of(weight)
            weight.copy_(master.copy_(spread(state[name], master)))


def _inject(network: Any, config: LoraConfig) -> None:
    """Let peft put an adapter on a network, and freeze all else but a score head.

    What learns is float32, whatever the trunk is.
    """
    network.add_adapter(config)
    head = _head(network)
    if head is not None:
        head.requires_grad_(True)
    for weight in network.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def _head(network: Any) -> Any:
    """The score head of a reward model; nothing for a language model."""
    return score_head(network)
