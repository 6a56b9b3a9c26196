"""PPO's four networks: loaded, checked, prepared to learn or to stay frozen, in which precision.

With LoRA the reference is the actor with its adapter off, so no second copy exists.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel

from models.errors import ModelError
from models.language.folders import (
    load_causal_model,
    load_reward_model,
    refuse_other_tokenizer,
    save_model,
)
from models.language.sequences import Sequences, token_logprobs
from models.ppo.config import PPOConfig
from models.randomness import derive_seed
from models.training.memory import recompute_activations


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The four roles. Actor and critic learn; reference and reward model stay frozen.

    Attributes:
        actor: A causal language model, perhaps with an adapter.
        reference: A causal language model, or nothing: then it is the actor without its adapter.
    """

    actor: Any
    critic: Any
    reference: Any
    reward_model: Any

    @contextmanager
    def as_reference(self) -> Iterator[Any]:
        """Give the network that plays the reference."""
        if self.reference is not None:
            yield self.reference
            return
        self.actor.disable_adapters()
        try:
            yield self.actor
        finally:
            self.actor.enable_adapters()

    def fingerprints(self) -> dict[str, str]:
        """Hashes of the weights that must not change, by role."""
        if self.reference is not None:
            reference = fingerprint(self.reference.state_dict())
        else:
            learned = learned_state(self.actor)
            state = self.actor.state_dict()
            reference = fingerprint({name: state[name] for name in state if name not in learned})
        return {
            "reference": reference,
            "reward_model": fingerprint(self.reward_model.state_dict()),
        }


def load_networks(
    sft: Path, reward: Path, *, config: PPOConfig, seed: int, device: str
) -> Networks:
    """Load the four roles and check that they share a tokenizer.

    Raises:
        ModelError: Tokenizers differ, or packed rows give other logprobs than the model itself.
    """
    networks = Networks(
        actor=load_causal_model(sft).to(device),
        critic=load_reward_model(reward).to(device),
        reference=None if config.lora else load_causal_model(sft).to(device),
        reward_model=load_reward_model(reward).to(device),
    )
    refuse_other_tokenizer(
        reward, "reward model", sft, "SFT model", "train the reward model from this SFT model"
    )
    sizes = (networks.actor.config.vocab_size, networks.reward_model.config.vocab_size)
    if sizes[0] != sizes[1]:
        raise ModelError(
            f"the SFT model (vocabulary {sizes[0]}) and the reward model (vocabulary {sizes[1]}) "
            "have embeddings of different sizes; PPO needs one for all four networks: train the "
            "reward model from this SFT model"
        )
    _check_logprobs(networks.actor)
    if config.lora:
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(seed, "ppo.lora"))
            networks.actor.add_adapter(
                LoraConfig(
                    r=config.lora.rank,
                    lora_alpha=config.lora.alpha,
                    target_modules="all-linear",
                    task_type="CAUSAL_LM",
                )
            )
    return networks


def prepare_networks(networks: Networks, config: PPOConfig) -> None:
    """Freeze what is frozen, turn dropout off, and set up gradient checkpointing.

    Dropout is off because logprobs now and then must agree. Layers are only checkpointed by
    networks in training mode, so there it is taken out of the layers themselves.
    """
    for network in (networks.actor, networks.critic, networks.reference, networks.reward_model):
        if network is not None:
            network.eval()
    for frozen in (networks.reference, networks.reward_model):
        if frozen is not None:
            frozen.requires_grad_(False)
    if config.gradient_checkpointing:
        for network in (networks.actor, networks.critic):
            for module in network.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
                if hasattr(module, "attention_dropout"):
                    module.attention_dropout = 0.0
            recompute_activations(network)
            network.train()


def learned_state(network: Any) -> dict[str, torch.Tensor]:
    """The weights that learn, by name; the tensors themselves, not copies."""
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


@torch.no_grad()
def load_learned_state(network: Any, state: dict[str, torch.Tensor]) -> None:
    """Put weights of `learned_state` back."""
    for name, tensor in learned_state(network).items():
        tensor.copy_(state[name])


def publish_actor(actor: Any, tokenizer: Any, *, sft: Path, folder: Path) -> None:
    """Write the actor as a complete model; one with an adapter is merged, the adapter kept beside.

    Args:
        sft: Model folder that an adapter belongs on.
        folder: Where the model goes; an adapter goes to `<folder>_adapter`.
    """
    if not getattr(actor, "_hf_peft_config_loaded", False):
        save_model(actor, tokenizer, folder)
        return
    adapter = folder.with_name(f"{folder.name}_adapter")
    actor.save_pretrained(adapter)
    merged = PeftModel.from_pretrained(load_causal_model(sft), str(adapter)).merge_and_unload()
    save_model(merged, tokenizer, folder)


def fingerprint(state: dict[str, torch.Tensor]) -> str:
    """Hash tensors by name, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _check_logprobs(actor: Any) -> None:
    """Make sure that logprobs from packed rows and the head alone are the model's own."""
    vocabulary = actor.config.vocab_size
    rows = [[1 % vocabulary, *(n % vocabulary for n in range(3, 10))], [2 % vocabulary, 5, 4]]
    theirs = []
    for row in rows:
        ids = torch.tensor([row], device=actor.device)
        log_softmax = actor(ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
        theirs.append(log_softmax.gather(1, ids[0, 1:, None]).squeeze(1))
    packed = Sequences.from_lists(
        [row[:1] for row in rows], [row[1:] for row in rows], device=actor.device
    )
    ours = token_logprobs(actor, packed).logprobs
    if not torch.allclose(ours[packed.completion_mask], torch.cat(theirs), atol=1e-4):
        raise ModelError(
            f"{type(actor).__name__} gives other logprobs for packed rows with its output head "
            "alone than in its own forward pass: it scales or caps its logits, or its rows see "
            "each other; PPO supports models such as Llama, Qwen, Mistral or GPT-2"
        )


def forward_precision(config: PPOConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where it is asked for, or where it is left open and a GPU has it.

    One context covers forward passes with or without gradients, never both, and no optimiser step:
    autocast keeps the cast weights until it ends.
    """
    wanted = config.precision == "bfloat16" or (
        config.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


class MovingAverage:
    """average = decay * average + (1 - decay) * weights, after each optimiser step."""

    def __init__(self, network: Any, decay: float) -> None:
        """Start from the network's present weights."""
        self._decay = decay
        self.weights = {name: tensor.clone() for name, tensor in learned_state(network).items()}

    @torch.no_grad()
    def update(self, network: Any) -> None:
        """Take one step towards the network."""
        new = learned_state(network)
        for name, average in self.weights.items():
            average.lerp_(new[name], 1.0 - self._decay)
