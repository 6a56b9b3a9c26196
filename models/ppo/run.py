"""PPO from folders to folders: load the networks, train or resume, publish."""

from functools import partial
from pathlib import Path
from typing import Any

from models.distributed.interruption import Interruption
from models.distributed.team import current_team
from models.errors import ModelError
from models.language.config import SamplingConfig
from models.language.folders import (
    load_causal_model,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
)
from models.language.scoring import read_score_moments, write_score_moments
from models.ppo.config import PPOConfig
from models.ppo.networks import load_networks
from models.ppo.prompts import read_prompts
from models.ppo.ptx import BLOCK_TOKENS
from models.ppo.session import Session
from models.ppo.trainer import PPOTrainer
from models.rollouts.config import RolloutServer
from models.rollouts.engine import open_engine
from models.rows import read_rows, write_rows
from models.runtime import TrainingRun
from models.training.adapters import load_learned_state, publish
from models.training.blocks import corpus_blocks
from models.training.memory import restore_float32

WATCHED_PROMPTS = 8


def train_ppo(
    *,
    sft: Path,
    reward: Path,
    prompts: Path,
    heldout_prompts: Path,
    corpus: Path | None,
    config: PPOConfig,
    sampling: SamplingConfig,
    run: TrainingRun,
    cache: Path | None = None,
    prompts_cache: Path | None = None,
    server: RolloutServer | None = None,
) -> dict[str, float]:
    """Train the actor with PPO and publish it; in a team, together with its other members.

    Args:
        sft: Model folder from which actor and reference start.
        reward: Model folder from which reward model and critic start, with its score moments.
        heldout_prompts: Row file; a few are sampled to watch the actor, never to train it.
        corpus: Row file of texts for the pretraining mix, if there is one; read only for it.
        run: Its log is called once per iteration, its `out` gets `model/` (the actor),
            `ema/` and `critic/` if there are any, with LoRA an adapter beside each
            (`model_adapter/`), `samples.jsonl` and `alarms.jsonl`.
        cache: Folder for the corpus as tokens, named after its contents; see `open_tokens`.
        prompts_cache: Folder for the prompts as tokens, likewise; see `read_prompts`.
        server: That samples where `config.rollout_engine` is server.

    Returns:
        The last iteration's monitors, named `ppo/...`, the number of `ppo/iterations`, and for
        each alarm that was raised in how many of them: `ppo/alarms/<name>`.

    Raises:
        DivergedError: A loss or a gradient is not finite; `checkpoints` holds the state.
        ModelError: The networks do not fit each other.
        DataError: There are no prompts.
        ParameterError: A pretraining mix is wanted and there is no corpus, or a rollout server and
            none is known.
        RolloutError: The server does not answer, or not as training needs it.
    """
    tokenizer = load_tokenizer(sft)
    networks = load_networks(sft, reward, config=config, seed=run.seed, device=run.device)
    asked = read_prompts(
        prompts, tokenizer, networks.actor, sampling, prompts_cache or run.checkpoints
    )
    block_tokens = min(BLOCK_TOKENS, networks.actor.config.max_position_embeddings)
    blocks = (
        corpus_blocks(tokenizer, corpus, block_tokens, run.seed, cache=cache)
        if (corpus and config.ptx_coef)
        else None
    )
    frozen = networks.fingerprints()
    with Interruption() as interruption, open_engine(config.rollout_engine, server) as engine:
        trainer = PPOTrainer(
            networks=networks,
            prompts=asked,
            config=config,
            sampling=sampling,
            moments=read_score_moments(reward),
            eos_token_id=tokenizer.eos_token_id,
            seed=run.seed,
            corpus=blocks,
            interruption=interruption,
            engine=engine,
        )
        watched = [row["prompt"] for row in _spread(read_rows(heldout_prompts), WATCHED_PROMPTS)]
        session = Session(trainer, tokenizer, watched, run)
        session.run()
    for name, before in networks.fingerprints().items():
        if before != frozen[name]:
            raise ModelError(f"the {name} changed during PPO; it must stay frozen, bit for bit")
    _publish(session, tokenizer, sft, reward, run.out)
    return {f"ppo/{name}": value for name, value in session.summary().items()}


def _publish(session: Session, tokenizer: Any, sft: Path, reward: Path, out: Path) -> None:
    trainer = session.trainer
    networks = trainer.networks
    for network in networks.learning:
        restore_float32(network)
    publish(networks.actor, tokenizer, out / "model", base=sft, load=load_causal_model)
    if networks.critic is not None:
        base, load = reward, load_reward_model
        if networks.one_trunk:
            base, load = sft, partial(new_reward_model, seed=0)  # the head is the critic's
        publish(networks.critic, tokenizer, out / "critic", base=base, load=load)
        if current_team().leads:
            write_score_moments(out / "critic", trainer.moments)  # its values are in units of them
    if current_team().leads:
        write_rows(out / "samples.jsonl", session.samples)
        write_rows(out / "alarms.jsonl", session.alarms)
    if trainer.ema is not None:
        load_learned_state(networks.actor, trainer.ema.weights)
        publish(networks.actor, tokenizer, out / "ema", base=sft, load=load_causal_model)


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Take `count` rows at equal distances, or all where there are fewer."""
    count = min(count, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]
