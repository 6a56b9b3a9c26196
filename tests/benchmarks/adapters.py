"""Memory and seconds of a PPO iteration: all weights, adapters on two trunks, adapters on one.

    python tests/benchmarks/adapters.py [--model FOLDER] [--rollouts 16] [--rank 16] [--rounds 3]

Each side runs in a process of its own, one after the other, with one thread. Memory is the highest
resident size above that after the imports; the processor's time of the fastest round counts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from networks import causal_model, tokenizer
from workloads import EOS_ID, SIZES

from models.language.config import LoRAConfig, SamplingConfig
from models.language.folders import load_causal_model, load_tokenizer, new_reward_model, save_model
from models.language.scoring import ScoreMoments
from models.ppo.config import PPOConfig
from models.ppo.networks import load_networks
from models.ppo.trainer import PPOTrainer
from models.training.adapters import add_adapter, publish

SIDES = ("full", "two trunks", "one trunk")
PROMPT_TOKENS, COMPLETION_TOKENS = 24, 64


def main() -> None:
    """Measure all sides, or as a child one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a language model's folder; none = size M")
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folders", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(_measure(given)))
        return
    with tempfile.TemporaryDirectory() as name:
        folders = _make_folders(Path(name), given.model, given.rank)
        print("side | MiB | seconds of sampling | of judging | of updates | learning weights")
        for side in SIDES:
            words = [*sys.argv[1:], "--side", side, "--folders", str(folders)]
            done = subprocess.run(
                [sys.executable, __file__, *words], stdout=subprocess.PIPE, check=True
            )
            print(side, *json.loads(done.stdout), sep=" | ")


def _make_folders(out: Path, model: Path | None, rank: int) -> Path:
    """Write an SFT model, a reward model on it, and one that is an adapter on it."""
    if model is None:
        save_model(causal_model(SIZES["M"]), tokenizer("M"), out / "sft")
    else:
        save_model(load_causal_model(model), load_tokenizer(model), out / "sft")
    words = load_tokenizer(out / "sft")
    network = new_reward_model(out / "sft", seed=1)
    save_model(network, words, out / "full")
    add_adapter(network, LoRAConfig(rank=rank), seed=2)
    publish(
        network, words, out / "adapter",
        base=out / "sft", load=lambda path: new_reward_model(path, seed=1),
    )  # fmt: skip
    return out


def _measure(given: Any) -> list[float]:
    torch.set_num_threads(1)
    base = _resident("VmRSS")
    config = PPOConfig(
        iterations=given.rounds,
        rollouts_per_iteration=given.rollouts,
        rollouts_per_minibatch=given.rollouts // 2,
        critic_warmup_iterations=0,
        max_approx_kl=1e9,
        lora=None if given.side == "full" else LoRAConfig(rank=given.rank),
    )
    reward = given.folders / ("adapter" if given.side == "one trunk" else "full")
    networks = load_networks(given.folders / "sft", reward, config=config, seed=3, device="cpu")
    assert networks.one_trunk == (given.side == "one trunk")
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, 2000, (given.rollouts, PROMPT_TOKENS), generator=generator)
    trainer = PPOTrainer(
        networks=networks,
        prompts=prompts.tolist(),
        config=config,
        sampling=SamplingConfig(
            max_completion_tokens=COMPLETION_TOKENS, min_completion_tokens=COMPLETION_TOKENS
        ),
        moments=ScoreMoments(mean=0.0, std=1.0, raw_std=1.0, samples=2),
        eos_token_id=EOS_ID,
        seed=3,
    )
    Path("/proc/self/clear_refs").write_text("5")  # loading may have taken more
    rounds = []
    for _ in range(given.rounds):
        started = time.process_time()
        metrics = trainer.step()
        spent = time.process_time() - started
        share = spent / (metrics["time/rollout_seconds"] + metrics["time/update_seconds"])
        parts = ("sampling", "judging", "update")
        rounds.append([metrics[f"time/{part}_seconds"] * share for part in parts])
    fastest = [round(one, 2) for one in min(rounds, key=sum)]
    learning = sum(
        one.numel() for role in (networks.actor, networks.critic)
        for one in role.parameters() if one.requires_grad
    )  # fmt: skip
    return [round((_resident("VmHWM") - base) / 1024), *fastest, learning]


def _resident(name: str) -> int:
    """KiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    main()
