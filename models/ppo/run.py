"""The PPO stage's learning from folders to folders: load, resume, iterate, watch, publish."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.checkpoints import latest, prune, seal
from models.configs.sampling import SamplingConfig
from models.errors import DataError, DivergedError, ModelError
from models.folders import load_causal_model, load_reward_model, load_tokenizer, save_model
from models.generation import sample_completions
from models.policies import encode_to_fit
from models.ppo.config import PPOConfig
from models.ppo.rollout import Networks
from models.ppo.trainer import PPOTrainer
from models.randomness import derive_seed
from models.rows import read_rows, write_rows
from models.runtime import Log
from models.scoring import read_score_moments, write_score_moments
from models.sequences import Sequences, token_logprobs
from models.tokenizer import decode_completion

__all__ = ["train_ppo"]

logger = logging.getLogger(__name__)

CHECKPOINTS_KEPT = 2
WATCHED_PROMPTS = 8


def train_ppo(
    *,
    sft: Path,
    reward: Path,
    prompts: Path,
    heldout_prompts: Path,
    out: Path,
    checkpoints: Path,
    config: PPOConfig,
    sampling: SamplingConfig,
    seed: int,
    device: str,
    log: Log,
) -> dict[str, float]:
    """Train the actor with PPO and publish it.

    Args:
        sft: Model folder from which actor and reference start.
        reward: Model folder from which reward model and critic start, with its score moments.
        prompts: Row file of training prompts.
        heldout_prompts: Row file; completions of a few of them are watched, never learned from.
        out: An empty folder; gets `model/` (the actor), `critic/` and `samples.jsonl`.
        checkpoints: Where checkpoints are kept; training goes on from the last whole one.
        config: PPO's parameters.
        sampling: Temperature and longest completion.
        seed: The root seed.
        device: Where to train.
        log: Called once an iteration.

    Returns:
        The last iteration's monitors, named `ppo/...`.

    Raises:
        DivergedError: A loss or a gradient is not finite; `checkpoints` holds the state.
        ModelError: The networks do not fit each other.
        DataError: There are no prompts.
    """
    tokenizer = load_tokenizer(sft)
    networks = load_networks(sft, reward, device=device)
    rows = [row["prompt"] for row in read_rows(prompts)]
    if not rows:
        raise DataError(f"{prompts.name} holds no prompts; PPO needs at least one to sample from")
    trainer = PPOTrainer(
        networks=networks,
        prompts=encode_to_fit(tokenizer, networks.actor, rows, sampling),
        config=config,
        sampling=sampling,
        moments=read_score_moments(reward),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        seed=seed,
    )
    frozen = {name: fingerprint(getattr(networks, name)) for name in ("reference", "reward_model")}
    watched = [row["prompt"] for row in _spread(read_rows(heldout_prompts), WATCHED_PROMPTS)]
    metrics, samples = _iterate(trainer, tokenizer, watched, checkpoints, log)
    for name, before in frozen.items():
        if fingerprint(getattr(networks, name)) != before:
            raise ModelError(f"the {name} changed during PPO; it must stay frozen, bit for bit")
    save_model(networks.actor, tokenizer, out / "model")
    save_model(networks.critic, tokenizer, out / "critic")
    write_score_moments(out / "critic", trainer.moments)  # its values are in units of them
    write_rows(out / "samples.jsonl", samples)
    return {f"ppo/{name}": value for name, value in metrics.items()}


def load_networks(sft: Path, reward: Path, *, device: str) -> Networks:
    """Load the four roles and check that they speak the same tokens.

    Raises:
        ModelError: Vocabularies differ, or the model changes its head's logits.
    """
    networks = Networks(
        actor=load_causal_model(sft).to(device),
        critic=load_reward_model(reward).to(device),
        reference=load_causal_model(sft).to(device),
        reward_model=load_reward_model(reward).to(device),
    )
    sizes = (networks.actor.config.vocab_size, networks.reward_model.config.vocab_size)
    if (
        sizes[0] != sizes[1]
        or load_tokenizer(sft).get_vocab() != load_tokenizer(reward).get_vocab()
    ):
        raise ModelError(
            f"the SFT model (vocabulary {sizes[0]}) and the reward model (vocabulary {sizes[1]}) "
            "have different tokenizers; PPO needs one for all four networks: train the reward "
            "model from this SFT model"
        )
    _check_head(networks.actor)
    return networks


@torch.no_grad()
def _check_head(actor: Any) -> None:
    """Logits are taken at completion positions only; make sure the head alone gives them."""
    ids = torch.arange(1, 9, device=actor.device)[None] % actor.config.vocab_size
    sequences = Sequences(
        input_ids=ids,
        prompt_lengths=torch.tensor([1], device=actor.device),
        completion_lengths=torch.tensor([7], device=actor.device),
    )
    ours = token_logprobs(actor, sequences, temperature=1.0).logprobs
    logits = actor(ids, use_cache=False).logits[:, :-1].float()
    theirs = logits.log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
    if not torch.allclose(ours, theirs, atol=1e-4):
        raise ModelError(
            f"{type(actor).__name__} changes the logits after its output head (soft-capping or "
            "scaling), got logprobs that differ from the head's alone; PPO supports models whose "
            "logits are the head's output, such as Llama, Qwen, Mistral or GPT-2"
        )


def fingerprint(network: Any) -> str:
    """Hash every parameter and buffer of a network, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _iterate(
    trainer: PPOTrainer,
    tokenizer: Any,
    watched: list[Any],
    checkpoints: Path,
    log: Log,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Run the iterations that are left; return the last metrics and the watched samples."""
    metrics: dict[str, float] = {}
    samples: list[dict[str, Any]] = []
    found = latest(checkpoints)
    if found is not None:
        state = torch.load(found / "state.pt", map_location="cpu", weights_only=True)
        trainer.load_state_dict(state["trainer"])
        metrics, samples = state["metrics"], state["samples"]
        logger.info("PPO goes on after iteration %d", trainer.finished_iterations)
    else:
        samples = _watch(trainer, tokenizer, watched)
    every = trainer.config.checkpoint_iterations
    while trainer.finished_iterations < trainer.config.iterations:
        try:
            metrics = trainer.step()
        except DivergedError as error:
            folder = checkpoints / "diverged"
            _save(trainer, metrics, samples, folder)
            raise DivergedError(
                f"{error}; the broken state is in {folder}; last metrics: {metrics}"
            ) from error
        done = trainer.finished_iterations
        log({f"ppo/{name}": value for name, value in metrics.items()}, done)
        if done % every == 0 or done == trainer.config.iterations:
            samples += _watch(trainer, tokenizer, watched)
            _save(trainer, metrics, samples, checkpoints / f"checkpoint-{done}")
            seal(checkpoints / f"checkpoint-{done}")
            prune(checkpoints, CHECKPOINTS_KEPT)
    return metrics, samples


def _save(
    trainer: PPOTrainer, metrics: dict[str, float], samples: list[dict[str, Any]], folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {"trainer": trainer.state_dict(), "metrics": metrics, "samples": samples}
    torch.save(state, folder / "state.pt")


def _watch(trainer: PPOTrainer, tokenizer: Any, prompts: Sequence[Any]) -> list[dict[str, Any]]:
    """Sample the watched prompts with the same luck each time, so that only the actor differs."""
    if not prompts:
        return []
    completions = sample_completions(
        trainer.networks.actor,
        encode_to_fit(tokenizer, trainer.networks.actor, prompts, trainer.sampling),
        sampling=trainer.sampling,
        eos_token_id=trainer.eos_token_id,
        pad_token_id=trainer.pad_token_id,
        generator=torch.Generator().manual_seed(derive_seed(trainer.seed, "ppo.watched")),
    )
    return [
        {
            "iteration": trainer.finished_iterations,
            "prompt": prompt if isinstance(prompt, str) else prompt[-1]["content"],
            "completion": decode_completion(tokenizer, completion.token_ids),
            "finished": completion.finished,
        }
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Take `count` rows at equal distances, or all where there are fewer."""
    count = min(count, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]
