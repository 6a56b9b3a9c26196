"""Tiny real models for the tests of promotion: policies that differ, a reward model and a judge."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.evaluation.checks import Check, Verdict
from models.evaluation.result import Comparison, EvaluationResult
from models.evaluation.sampling import RewardScorer, sample_model
from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.config import SamplingConfig, TokenizerConfig
from models.language.folders import load_tokenizer, new_reward_model, save_model
from models.language.tokenizer import train_tokenizer
from models.rows import write_rows
from tasks.registry.registration import register
from tasks.results.store import Manifest, StageRef, Store, list_files, write_manifest
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings

PIPELINE = PipelineRun(name="toy-1", preset="quickstart", seed=0, run_id="")
SEEDS = 5
PROMPTS = [f"the cat {i}" for i in range(32)]
ARCHITECTURE = ArchitectureConfig(layers=1, width=16, heads=2, context=48)
PRAISE, REFUSAL = " wonderful", "I cannot help you to do any harm."
NAME = "quickstart-policy"
SFT, REWARD, JUDGE, DATA, PREFERENCES = "5f" * 32, "4e" * 32, "7d" * 32, "da" * 32, "9f" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Model folders; of all policies, the judge likes `sft` least and `best` most.

    `cheerful` mostly says a word that VADER likes, `refusing` mostly a sentence that the gold judge
    finds right where harm is asked for; `stranger` reads other tokens.
    """

    sft: Path
    reward: Path
    judge: Path
    policies: tuple[Path, ...]
    cheerful: Path
    refusing: Path
    stranger: Path

    @property
    def best(self) -> Path:
        return self.policies[1]

    @property
    def middle(self) -> Path:
        return self.policies[0]


def make_folders(out: Path) -> Folders:
    """Make untrained models, each fond of other tokens, so that a judge tells them apart surely."""
    write_rows(out / "corpus.jsonl", [{"text": "the cat sat on the mat"}] * 4)
    for size in (300, 310):
        train_tokenizer(
            corpus=out / "corpus.jsonl", config=TokenizerConfig(vocab_size=size), context=48,
            out=out / f"tokenizer{size}",
        )  # fmt: skip
    tokenizer = load_tokenizer(out / "tokenizer300")
    tokenizer.add_tokens([PRAISE, REFUSAL])
    praise, refusal = tokenizer.convert_tokens_to_ids([PRAISE, REFUSAL])
    model = build_model(ARCHITECTURE, tokenizer, seed=0)
    save_model(model, tokenizer, out / "start")
    for seed, name in enumerate(("reward", "judge")):
        save_model(_spread(new_reward_model(out / "start", seed=seed), seed), tokenizer, out / name)
    for seed in range(SEEDS):
        policy = build_model(ARCHITECTURE, tokenizer, seed=seed)
        tokens = [200 + 10 * seed, 201 + 10 * seed]
        save_model(_fond_of(policy, seed, tokens), tokenizer, out / f"policy{seed}")
    for name, tokens in (
        ("cheerful", [praise, 200]), ("refusing", [refusal, tokenizer.eos_token_id]),
    ):  # fmt: skip
        policy = build_model(ARCHITECTURE, tokenizer, seed=0)
        save_model(_fond_of(policy, 0, tokens), tokenizer, out / name)
    other = load_tokenizer(out / "tokenizer310")
    other.add_tokens(["another"])
    save_model(build_model(ARCHITECTURE, other, seed=0), other, out / "stranger")
    ranked = sorted(
        (out / f"policy{seed}" for seed in range(SEEDS)), key=lambda one: _worth(out, one)
    )
    return Folders(
        sft=ranked[0],
        policies=(ranked[SEEDS // 2], ranked[-1]),
        reward=out / "reward",
        judge=out / "judge",
        cheerful=out / "cheerful",
        refusing=out / "refusing",
        stranger=out / "stranger",
    )


def publish(
    stage: str,
    digest: str,
    folder: Path | None,
    *,
    inputs: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    parameters: Mapping[str, Any] | None = None,
    prompts: Sequence[str] = PROMPTS,
) -> StageRef:
    """Publish a model folder, or held-out prompts, as a stage of the store."""
    store = Store(load_settings().store)
    out = store.writing(stage, digest)
    if folder is None:
        write_rows(out / "prompts_heldout.jsonl", [{"prompt": one} for one in prompts])
    else:
        shutil.copytree(folder, out / "model")
    manifest = Manifest(
        stage=stage, digest=digest, seed=0, parameters=dict(parameters or {}),
        inputs=dict(inputs or {}), libraries={}, code="", run_id="", seconds=0.0,
        metrics=dict(metrics or {}), files=list_files(out),
    )  # fmt: skip
    write_manifest(out, manifest)
    store.publish(out, stage, digest)
    return StageRef(stage=stage, digest=digest, metrics=dict(metrics or {}))


def publish_parents(folders: Folders, *, judge: bool = True) -> None:
    """Publish what the policies were made from."""
    publish("prepare", DATA, None, parameters={"data": {"source": "folder"}})
    publish("sft", SFT, folders.sft)
    share = {"reward": {"judge_share": 0.5 if judge else 0.0}}
    inputs = {"preferences": PREFERENCES, "sft": SFT}
    publish("reward", REWARD, folders.reward, inputs=inputs, parameters=share)
    if judge:
        publish("judge", JUDGE, folders.judge, inputs=inputs, parameters=share)


def register_policy(
    folder: Path, digest: str, alarms: Mapping[str, float] | None = None, *, data: str = DATA
) -> str:
    """Publish and register a policy; the address of its version."""
    from tasks.tracking.client import Tracker
    from tasks.tracking.queries import tagged

    inputs = {"reference": SFT, "reward_model": REWARD, "prompts": data}
    register(publish("ppo", digest, folder, inputs=inputs, metrics=alarms), PIPELINE)
    (version,) = Tracker(load_settings()).versions(tagged({"quartet.digest": digest}))
    return f"models:/{NAME}/{version.version}"


def publish_evaluation(policy: str, digest: str, low: float, *, accepted: bool = True) -> None:
    """Publish an evaluation of a policy whose gain's interval begins at `low`, 0.05 wide."""
    gain = {"mean": low + 0.025, "low": low, "high": low + 0.05}
    checks = (
        Check(name="judged_gain", value=low, low=0.0, passed=accepted, numbers=gain),
        Check(name="kl_to_reference", value=1.6, high=10.0, passed=True),
    )
    verdict = Verdict(judge="gold", independent=True, overoptimised=None, prompts=40, checks=checks)
    result = EvaluationResult(
        prompts=40, samples_per_prompt=1, measures={"sft": {}, "ppo": {}}, win_rates={},
        baseline="sft", comparisons={"ppo": Comparison(gains={}, ratios={}, verdict=verdict)},
    )  # fmt: skip
    store = Store(load_settings().store)
    out = store.writing("evaluate", digest)
    result.write(out)
    manifest = Manifest(
        stage="evaluate", digest=digest, seed=0, parameters={}, inputs={"policy": policy},
        libraries={}, code="", run_id="", seconds=0.0, metrics={}, files=list_files(out),
    )  # fmt: skip
    write_manifest(out, manifest)
    store.publish(out, "evaluate", digest)


@torch.no_grad()
def _spread(model: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model


@torch.no_grad()
def _fond_of(policy: Any, seed: int, tokens: list[int]) -> Any:
    """Let a policy say two tokens most of the time, and any other now and then.

    All embeddings share a direction, so every hidden state points there, and so do the head's rows
    of the two tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    head = policy.get_output_embeddings().weight
    direction = torch.ones(head.shape[1]) / head.shape[1] ** 0.5
    embeddings = policy.get_input_embeddings().weight
    embeddings.copy_(torch.randn(embeddings.shape, generator=generator) * 0.1 + 4 * direction)
    policy.set_output_embeddings(torch.nn.Linear(head.shape[1], head.shape[0], bias=False))
    policy.config.tie_word_embeddings = False
    head = policy.get_output_embeddings().weight
    head.copy_(torch.randn(head.shape, generator=generator) * 0.1)
    head[tokens] += 1.8 * direction
    return policy


def _worth(out: Path, policy: Path) -> float:
    """What the judge thinks of a policy, by plain sampling."""
    samples = sample_model(
        policy, PROMPTS[:24], samples_per_prompt=2,
        sampling=SamplingConfig(max_completion_tokens=12), seed=3, device="cpu",
    )  # fmt: skip
    return float(
        RewardScorer(out / "judge", "cpu").score(PROMPTS[:24], samples, policy).score.mean()
    )
