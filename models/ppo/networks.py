"""PPO's four networks: loaded, checked, prepared to learn or to stay frozen, in which precision.

With LoRA base weights exist once for all networks that start from the same folder: each network has
modules of its own, with or without an adapter, on the same tensors. So nothing is switched on or
off, and actor and critic can work at the same time. The reference is the actor without its adapter.
Where the reward model is an adapter on this very SFT model, one trunk serves all four roles.
"""

import hashlib
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.adoption.proof import check_language_model
from models.distributed.parts import whole
from models.distributed.sharding import let_go, shard
from models.distributed.team import current_team
from models.errors import ModelError, ParameterError
from models.families.scorers import HEADS
from models.language.folders import (
    load_causal_model,
    load_frozen,
    load_reward_model,
    refuse_other_tokenizer,
    reward_model_on,
    trunk_type,
)
from models.ppo.config import PPOConfig
from models.randomness import derive_seed
from models.runtime import computes_mixed
from models.training.adapters import (
    adapter_folder,
    add_adapter,
    belongs_on,
    learned_state,
    load_adapter,
    share_weights,
)
from models.training.memory import recompute_activations

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The four roles. Actor and critic learn; reference and reward model stay frozen.

    Attributes:
        actor: A causal language model, perhaps with an adapter.
        critic: None where advantages need no critic.
        one_trunk: Whether the base weights of all are those of the SFT model.
    """

    actor: Any
    critic: Any
    reference: Any
    reward_model: Any
    one_trunk: bool = False

    @property
    def learning(self) -> list[Any]:
        """Those that learn."""
        return [self.actor] if self.critic is None else [self.actor, self.critic]

    @property
    def frozen(self) -> list[Any]:
        """Those that do not."""
        return [self.reference, self.reward_model]

    def fingerprints(self) -> dict[str, str]:
        """Hashes of the weights that must not change, by role."""
        return {
            "reference": fingerprint(self.reference.state_dict()),
            "reward_model": fingerprint(self.reward_model.state_dict()),
        }


def load_networks(
    sft: Path, reward: Path, *, config: PPOConfig, seed: int, device: str
) -> Networks:
    """Load the roles, a critic only where it is used, and check that they share a tokenizer.

    Args:
        reward: Folder of a reward model; its adapter beside it is used where it belongs on the SFT
            model.

    Raises:
        ModelError: Tokenizers differ, or rows give other logprobs than the model itself.
        ParameterError: Networks shall be spread over processes that cannot be.
    """
    _refuse_to_shard(config)
    if config.uses_critic and (kind := trunk_type(reward)) in HEADS:
        raise ModelError(
            f"the reward model {reward} is a {kind}, which sees the tokens to come, and PPO's "
            "critic, which must not, starts from it; train the reward model from the SFT model, or "
            "set ppo.advantages=rloo or grpo, which need no critic"
        )
    if config.lora is None:
        networks = Networks(
            actor=shard(load_causal_model(sft)).to(device),
            critic=shard(load_reward_model(reward)).to(device) if config.uses_critic else None,
            reference=shard(load_frozen(load_causal_model, sft, device, config.precision)),
            reward_model=shard(load_frozen(load_reward_model, reward, device, config.precision)),
        )
    else:
        networks = _load_trunks(sft, reward, device, config)
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
    check_language_model(networks.actor, str(sft))
    if config.lora is not None:
        add_adapter(networks.actor, config.lora, seed=derive_seed(seed, "ppo.lora"))
        if networks.critic is not None and not networks.one_trunk:
            add_adapter(networks.critic, config.lora, seed=derive_seed(seed, "ppo.lora.critic"))
    return networks


def _refuse_to_shard(config: PPOConfig) -> None:
    if not current_team().shards:
        return
    if config.lora is not None:
        raise ParameterError(
            "ppo.lora is set and QUARTET_SHARDING or QUARTET_TENSOR_PARALLEL spreads models over "
            "processes; adapters want whole weights, which their networks share: set "
            "QUARTET_SHARDING=replicate and QUARTET_TENSOR_PARALLEL=1, or ppo.lora=null"
        )
    if config.precision == "bfloat16":
        raise ParameterError(
            "ppo.precision is bfloat16 and QUARTET_SHARDING or QUARTET_TENSOR_PARALLEL spreads "
            "models over processes; float32 masters are kept of whole weights only: set "
            "ppo.precision=auto, which computes in bfloat16 where a GPU has it"
        )


def _load_trunks(sft: Path, reward: Path, device: str, config: PPOConfig) -> Networks:
    """Load each base model once; actor, and critic on a trunk of its own, still lack adapters."""
    actor = load_frozen(load_causal_model, sft, device, config.precision)
    adapter = adapter_folder(reward)
    one_trunk = belongs_on(adapter, sft)
    if one_trunk:
        logger.info("the reward model is an adapter on the SFT model: one trunk serves all")
    reward_model = (
        reward_model_on(actor)
        if one_trunk
        else load_frozen(load_reward_model, reward, device, config.precision)
    )
    networks = Networks(
        actor=actor,
        critic=share_weights(reward_model) if config.uses_critic else None,
        reference=share_weights(actor),
        reward_model=reward_model,
        one_trunk=one_trunk,
    )
    if one_trunk:
        for network in filter(None, (networks.critic, networks.reward_model)):
            load_adapter(network, adapter)
    return networks


def prepare_networks(networks: Networks, config: PPOConfig) -> None:
    """Freeze what is frozen, turn dropout off, and set up gradient checkpointing.

    Dropout is off because logprobs now and then must agree. Layers are only checkpointed by
    networks in training mode, so there it is taken out of the layers themselves.
    """
    for network in (*networks.learning, *networks.frozen):
        network.eval()
        let_go(network)
    for frozen in networks.frozen:
        frozen.requires_grad_(False)
    if config.gradient_checkpointing:
        for network in networks.learning:
            for module in network.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
                if hasattr(module, "attention_dropout"):
                    module.attention_dropout = 0.0
            recompute_activations(network)
            network.train()


def fingerprint(state: dict[str, torch.Tensor]) -> str:
    """Hash tensors by name, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(whole(tensor).detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def forward_precision(config: PPOConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where the precision is left open and a GPU has it.

    One context covers forward passes with or without gradients, never both, and no optimiser step:
    autocast keeps the cast weights until it ends.
    """
    mixed = computes_mixed(str(device), config.precision)
    return torch.autocast(device.type, dtype=torch.bfloat16) if mixed else nullcontext()


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
