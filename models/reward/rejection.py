"""Best-of-n and SFT: the model learns what a reward model likes best of its own completions.

Stands in PPO's place between reward model and evaluation. The SFT model completes every training
prompt n times; the completion with the highest score is its new demonstration, and the SFT model
is fine-tuned on these. One round, as its simplest form has it; Llama 2 took several.

Differs from the papers: completions that were cut at the limit are not chosen, since their text
would pass for one that ends there, and a prompt without any other is left out.

Source: Touvron et al. 2023, Llama 2 (arXiv 2307.09288), section 3.2.3, rejection sampling.
"""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.distributed.team import current_team
from models.errors import DataError
from models.language.config import SamplingConfig
from models.language.folders import (
    load_causal_model,
    load_frozen,
    load_reward_model,
    load_tokenizer,
    refuse_other_tokenizer,
)
from models.language.generation import encode_to_fit, sample_completions
from models.language.scoring import SequenceScorer, read_score_moments
from models.language.tokenizer import decode_completions
from models.randomness import derive_seed
from models.rows import has_messages, read_rows, write_rows
from models.runtime import TrainingRun
from models.training.config import BestOfNConfig, SFTStageConfig
from models.training.sft import finetune

logger = logging.getLogger(__name__)

STAGE = "best-of-n"
CHUNK_PROMPTS = 128
"""Prompts whose completions exist at once; what is chosen of them is saved together."""
CHOSEN = "chosen.jsonl"


def train_best_of_n(
    *,
    sft: Path,
    reward: Path,
    prompts: Path,
    heldout: Path,
    config: BestOfNConfig,
    training: SFTStageConfig,
    sampling: SamplingConfig,
    run: TrainingRun,
) -> dict[str, float]:
    """Choose a completion for each prompt and fine-tune the SFT model on them.

    Args:
        sft: Model folder of who samples and then learns.
        reward: Folder of the reward model that chooses.
        prompts: Row file of training prompts.
        heldout: Row file of held-out demonstrations, whose loss is watched.
        training: How the SFT model learns from what was chosen.
        run: Its `out` gets `model/`, with LoRA `model_adapter/`, and `chosen.jsonl`.

    Returns:
        Final metrics, `best-of-n/…`: those of SFT, prompts with and without a choice, and how far
        the chosen completions' scores lie above the mean of all, in standard deviations of the
        SFT model's scores.

    Raises:
        DataError: There are no prompts, or all of their completions were cut.
        ModelError: The two models read different tokens.
        DivergedError: The loss is not finite.
    """
    rows = _choose_all(sft, reward, prompts, config, sampling, run)
    chosen = run.checkpoints / CHOSEN
    if current_team().keeps:
        write_rows(chosen, [row for row in rows if "completion" in row])
        shutil.copyfile(chosen, run.out / CHOSEN)
    current_team().wait()
    kept = [row for row in rows if "completion" in row]
    if not kept:
        raise DataError(
            f"all {len(rows) * config.samples_per_prompt} completions of {len(rows)} prompts were "
            "cut at the limit, wanted some that end by themselves: raise "
            "sampling.max_completion_tokens or train the SFT model longer"
        )
    if len(kept) < len(rows):
        logger.warning(
            "%d of %d prompts have no whole completion", len(rows) - len(kept), len(rows)
        )

    def log(metrics: Mapping[str, float], step: int) -> None:
        run.log(_renamed(metrics), step)

    metrics = finetune(
        base=sft, demonstrations=chosen, heldout=heldout, config=training,
        run=replace(run, out=run.out / "model", log=log),
    )  # fmt: skip
    gain = sum(row["score"] - row["mean_score"] for row in kept) / len(kept)
    return {
        **_renamed(metrics),
        f"{STAGE}/prompts": float(len(kept)),
        f"{STAGE}/dropped_prompts": float(len(rows) - len(kept)),
        f"{STAGE}/score_gain": gain / read_score_moments(reward).std,
    }


def _renamed(metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{STAGE}/{name.removeprefix('sft/')}": value for name, value in metrics.items()}


def _choose_all(
    sft: Path, reward: Path, prompts: Path, config: BestOfNConfig, sampling: SamplingConfig,
    run: TrainingRun,
) -> list[dict[str, Any]]:  # fmt: skip
    """Choose chunk by chunk; chunks that an interrupted run has saved are read."""
    rows = read_rows(prompts)
    asked = [row["prompt"] for row in rows]
    if not asked:
        raise DataError(f"{prompts.name} holds no prompts; best-of-n needs at least one")
    refuse_other_tokenizer(
        reward, "reward model", sft, "SFT model", "train the reward model from this SFT model"
    )
    team, folder = current_team(), run.checkpoints / "chosen"
    if team.keeps:
        folder.mkdir(parents=True, exist_ok=True)
    team.wait()
    chunks = [asked[start : start + CHUNK_PROMPTS] for start in range(0, len(asked), CHUNK_PROMPTS)]
    paths = [folder / f"{number}.jsonl" for number in range(len(chunks))]
    (missing, *_) = team.gather([n for n, path in enumerate(paths) if not path.is_file()])
    if missing:
        messages = has_messages(rows)
        chooser = _Chooser(sft, reward, config, sampling, run, messages=messages)
        for number in missing:
            chosen = chooser.choose(chunks[number], number)
            if team.keeps:
                write_rows(paths[number].with_suffix(".partial"), chosen)
                os.replace(paths[number].with_suffix(".partial"), paths[number])
            team.wait()
    return [row for path in paths for row in read_rows(path)]


class _Chooser:
    """Both models, and the random seed; a chunk's choice depends on its number, not on others."""

    def __init__(
        self, sft: Path, reward: Path, config: BestOfNConfig, sampling: SamplingConfig,
        run: TrainingRun, *, messages: bool,
    ) -> None:  # fmt: skip
        self._tokenizer = load_tokenizer(sft, wants_template=messages)
        self._actor = load_frozen(load_causal_model, sft, run.device)
        self._reward = load_frozen(load_reward_model, reward, run.device)
        self._samples, self._sampling, self._seed = config.samples_per_prompt, sampling, run.seed

    def choose(self, prompts: Sequence[Any], number: int) -> list[dict[str, Any]]:
        """One row for each prompt; without a completion where all were cut or empty."""
        encoded = encode_to_fit(self._tokenizer, self._actor, prompts, self._sampling)
        repeated = [ids for ids in encoded for _ in range(self._samples)]
        seed = derive_seed(self._seed, f"{STAGE}.{number}")
        completions = sample_completions(
            self._actor, repeated, sampling=self._sampling,
            eos_token_id=self._tokenizer.eos_token_id,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        asked = [prompt for prompt in prompts for _ in range(self._samples)]
        texts = decode_completions(self._tokenizer, [one.token_ids for one in completions], asked)
        scores = SequenceScorer(self._reward).score(  # a new one: it keeps every row it scored
            [[*ids, *one.token_ids] for ids, one in zip(repeated, completions, strict=True)]
        )
        rows = []
        for place, prompt in enumerate(prompts):
            group = range(place * self._samples, (place + 1) * self._samples)
            whole = [index for index in group if completions[index].finished and texts[index]]
            row = {"prompt": prompt, "mean_score": float(scores[group.start : group.stop].mean())}
            if whole:
                best = max(whole, key=lambda index: scores[index])  # of equal ones the first
                answer = [{"role": "assistant", "content": texts[best]}]
                completion = texts[best] if isinstance(prompt, str) else answer
                row |= {"completion": completion, "score": float(scores[best])}
            rows.append(row)
        return rows
