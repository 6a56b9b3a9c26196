"""Four tiny networks, a trainer that takes its steps in milliseconds, and the stage on disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from models.language.config import SamplingConfig
from models.language.folders import save_model
from models.language.scoring import ScoreMoments, write_score_moments
from models.ppo import trainer as trainer_module
from models.ppo.config import PPOConfig
from models.ppo.networks import Networks
from models.ppo.rollout import Rollout
from models.ppo.run import train_ppo
from models.ppo.trainer import PPOTrainer
from models.rollouts.engine import RolloutEngine
from models.rows import write_rows
from models.runtime import TrainingRun

# Lengths 3, 1, 6, 2, 4, 1; no token of them is pad (0) or EOS (1).
PROMPTS = [[5, 6, 7], [2], [3, 9, 4, 4, 8, 2], [12, 13], [15, 14, 3, 2], [8]]
MOMENTS = ScoreMoments(mean=0.3, std=0.8, raw_std=0.8, samples=64)


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    return PROMPTS


@pytest.fixture(scope="session")
def moments() -> ScoreMoments:
    return MOMENTS


@pytest.fixture(scope="session")
def make_four_networks(make_network: Callable[..., Any]) -> Callable[..., Networks]:
    """A builder of the four roles; `parted` starts the actor away from its reference."""

    def build(family: str = "llama", *, parted: bool = False, dropout: float = 0.0) -> Networks:
        return Networks(
            actor=make_network(family, seed=7 if parted else 0, dropout=dropout),
            critic=make_network(family, score_head=True, seed=8 if parted else 1, dropout=dropout),
            reference=make_network(family, seed=0),
            reward_model=make_network(family, score_head=True, seed=1),
        )

    return build


@pytest.fixture(scope="session")
def make_trainer(make_four_networks: Callable[..., Networks]) -> Callable[..., PPOTrainer]:
    """A builder of trainers: defaults below, any field of PPOConfig by name."""

    def build(
        *,
        networks: Networks | None = None,
        prompts: list[list[int]] = PROMPTS,
        sampling: SamplingConfig | None = None,
        moments: ScoreMoments = MOMENTS,
        seed: int = 0,
        corpus: torch.Tensor | None = None,
        engine: RolloutEngine | None = None,
        **changes: Any,
    ) -> PPOTrainer:
        config: dict[str, Any] = {
            "iterations": 4,
            "rollouts_per_iteration": 8,
            "rollouts_per_minibatch": 4,
            "actor_learning_rate": 1e-3,
            "critic_learning_rate": 1e-3,
            "critic_warmup_iterations": 0,
            "max_approx_kl": 1e9,
        }
        settings = PPOConfig(**config | changes)
        networks = networks or make_four_networks()
        return PPOTrainer(
            networks=networks if settings.uses_critic else replace(networks, critic=None),
            prompts=prompts,
            config=settings,
            sampling=sampling or SamplingConfig(temperature=0.7, max_completion_tokens=8),
            moments=moments,
            eos_token_id=1,
            seed=seed,
            corpus=corpus,
            engine=engine,
        )

    return build


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an iteration sampled: which prompts went in, which rollout came out."""

    prompts: list[list[int]]
    rollout: Rollout


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """The rollout of every iteration that a trainer begins."""
    calls: list[Seen] = []
    sampled: list[list[list[int]]] = []
    sample = trainer_module.sample

    def watched_sample(actor: Any, prompts: list[list[int]], **given: Any) -> Any:
        sampled.append(prompts)
        return sample(actor, prompts, **given)

    def watched_rollout(**given: Any) -> Rollout:
        rollout = Rollout(**given)
        calls.append(Seen(prompts=sampled[-1], rollout=rollout))
        return rollout

    monkeypatch.setattr(trainer_module, "sample", watched_sample)
    monkeypatch.setattr(trainer_module, "Rollout", watched_rollout)
    return calls


@pytest.fixture(scope="session")
def weights_of() -> Callable[[Any], dict[str, torch.Tensor]]:
    """A network's state, copied so that later steps do not change it."""

    def copy(network: Any) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in network.state_dict().items()}

    return copy


@pytest.fixture(scope="session")
def same_weights() -> Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], bool]:
    """Whether two states are equal to the bit."""

    def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
        return one.keys() == other.keys() and all(
            torch.equal(one[name], other[name]) for name in one
        )

    return equal


WORDS = ["the cat", "a dog ran", "what is the sum", "home over", "你好", "slept all day", "two and"]
HELDOUT = [f"a dog number {n}" for n in range(11)]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The stage's inputs on disk; read-only."""

    sft: Path
    reward: Path
    prompts: Path
    heldout: Path
    corpus: Path


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run left behind."""

    folder: Path
    logged: dict[int, dict[str, float]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Any], tokenizer: Any
) -> World:
    folder = tmp_path_factory.mktemp("world")
    vocab = len(tokenizer)
    for name, score_head in (("sft", False), ("reward", True)):
        model = make_network("llama", vocab=vocab, score_head=score_head, seed=score_head)
        model.config.pad_token_id = tokenizer.pad_token_id
        save_model(model, tokenizer, folder / name)
    moments = ScoreMoments(mean=0.1, std=0.9, raw_std=0.9, samples=32)
    write_score_moments(folder / "reward", moments)
    write_rows(folder / "prompts.jsonl", [{"prompt": text} for text in WORDS])
    write_rows(folder / "heldout.jsonl", [{"prompt": text} for text in HELDOUT])
    write_rows(folder / "corpus.jsonl", [{"text": text * 3} for text in WORDS * 20])
    return World(
        sft=folder / "sft",
        reward=folder / "reward",
        prompts=folder / "prompts.jsonl",
        heldout=folder / "heldout.jsonl",
        corpus=folder / "corpus.jsonl",
    )


@pytest.fixture(scope="session")
def train(world: World) -> Callable[..., Outcome]:
    """The stage, run in a folder; with `interrupt_at`, an error strikes after that iteration."""

    def run(
        folder: Path,
        *,
        interrupt_at: int | None = None,
        config: Mapping[str, Any] = MappingProxyType({}),
        logged: dict[int, dict[str, float]] | None = None,
        **changes: Any,
    ) -> Outcome:
        outcome = Outcome(folder=folder, logged={} if logged is None else logged)
        outcome.out.mkdir(parents=True, exist_ok=True)

        def log(metrics: Mapping[str, float], step: int) -> None:
            if step == interrupt_at:
                raise RuntimeError("killed")
            outcome.logged[step] = dict(metrics)

        paths = {
            "sft": world.sft,
            "reward": world.reward,
            "prompts": world.prompts,
            "heldout_prompts": world.heldout,
            "corpus": world.corpus,
        }
        settings = PPOConfig(
            iterations=5,
            rollouts_per_iteration=6,
            rollouts_per_minibatch=3,
            actor_learning_rate=1e-3,
            critic_warmup_iterations=1,
            **{"checkpoint_iterations": 2} | config,
        )
        outcome.metrics = train_ppo(
            **paths | changes,
            config=settings,
            sampling=SamplingConfig(temperature=0.8, max_completion_tokens=6),
            run=TrainingRun(
                out=outcome.out,
                checkpoints=outcome.checkpoints,
                seed=3,
                device="cpu",
                log=log,
            ),
        )
        return outcome

    return run


@pytest.fixture(scope="session")
def whole(train: Callable[..., Outcome], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """An uninterrupted run."""
    return train(tmp_path_factory.mktemp("whole"))
