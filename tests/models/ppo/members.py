"""PPO as a member of a team runs it: what tests call in one process and in several."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.distributed.team import current_team
from models.language.config import SamplingConfig
from models.language.scoring import read_score_moments
from models.ppo import trainer as trainer_module
from models.ppo.config import PPOConfig
from models.ppo.networks import load_networks
from models.ppo.run import train_ppo
from models.ppo.trainer import PPOTrainer
from models.runtime import TrainingRun

SIZES: dict[str, Any] = {
    "iterations": 6,
    "rollouts_per_iteration": 12,
    "rollouts_per_minibatch": 6,
    "tokens_per_microbatch": 20,  # less than a third of a minibatch: the same chunks in three
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "critic_warmup_iterations": 1,
}
SAMPLING = SamplingConfig(temperature=0.8, max_completion_tokens=8, batch_size=4)
PROMPTS = [[5, 6, 7], [2], [3, 9, 4, 4, 8, 2], [12, 13], [15, 14, 3, 2], [8]]


def iterate(sft: Path, reward: Path, cases: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Train in each case, one after the other; what this member saw, and its weights at the end."""
    return {name: _iterate(sft, reward, PPOConfig(**SIZES | case)) for name, case in cases.items()}


def _iterate(sft: Path, reward: Path, config: PPOConfig) -> dict[str, Any]:
    tokens: list[list[int]] = []
    sample = trainer_module.sample

    def watched(*args: Any, **given: Any) -> Any:
        samples = sample(*args, **given)
        tokens.extend(one.token_ids for one in samples.completions)
        return samples

    trainer_module.sample = watched
    try:
        trainer = PPOTrainer(
            networks=load_networks(sft, reward, config=config, seed=3, device="cpu"),
            prompts=PROMPTS,
            config=config,
            sampling=SAMPLING,
            moments=read_score_moments(reward),
            eos_token_id=1,
            seed=6,
            corpus=torch.arange(2, 14).repeat(40).reshape(-1, 16),
        )
        metrics = [trainer.step() for _ in range(config.iterations)]
    finally:
        trainer_module.sample = sample
    return {"tokens": tokens, "metrics": metrics, "weights": weights_of(trainer.state_dict())}


def weights_of(state: Mapping[str, Any]) -> Any:
    """All that learns, and its average, as one float32 array."""
    parts = [state["actor"], state["critic"] or {}, state["ema"] or {}]
    return torch.cat([one.flatten() for part in parts for one in part.values()]).numpy().copy()


def train(folders: Mapping[str, Path], folder: Path, stop_in: int | None = None) -> dict[str, Any]:
    """Run the stage; with `stop_in`, the last member gets SIGTERM in that step of the critic.

    Returns:
        What was logged here by iteration, the steps of the critic, the weights that it resumed
        from, and the exit code of one that was stopped.
    """
    logged: dict[int, dict[str, float]] = {}
    steps, critic_step = [], trainer_module.critic_step
    loaded, load = [], PPOTrainer.load_state_dict
    team = current_team()

    def disturbed(*args: Any, **given: Any) -> Any:
        steps.append(1)
        if len(steps) == stop_in and team.rank == team.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return critic_step(*args, **given)

    def watched(trainer: PPOTrainer, state: dict[str, Any]) -> None:
        load(trainer, state)
        loaded.append(weights_of(trainer.state_dict()))

    trainer_module.critic_step = disturbed
    PPOTrainer.load_state_dict = watched  # type: ignore[method-assign]
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    try:
        train_ppo(
            **folders,
            config=PPOConfig(
                **SIZES | {"iterations": 4, "checkpoint_iterations": 2, "ema_decay": 0.9}
            ),
            sampling=SAMPLING,
            run=TrainingRun(
                out=out,
                checkpoints=folder / "checkpoints",
                seed=3,
                device="cpu",
                log=lambda metrics, step: logged.update({step: dict(metrics)}),
            ),
        )
        left = None
    except SystemExit as leaving:
        left = leaving.code
    finally:
        trainer_module.critic_step = critic_step
        PPOTrainer.load_state_dict = load  # type: ignore[method-assign]
    return {"logged": logged, "steps": len(steps), "loaded": loaded, "left": left}


def several(*calls: tuple[Any, ...]) -> list[Any]:
    """Make calls one after the other: starting a team costs more than they do."""
    return [function(*arguments) for function, *arguments in calls]


def folders_of(world: Any) -> dict[str, Path]:
    """What the stage is given of the world on disk."""
    names = {"sft": "sft", "reward": "reward", "prompts": "prompts"}
    names |= {"heldout_prompts": "heldout", "corpus": "corpus"}
    return {name: getattr(world, attribute) for name, attribute in names.items()}
