"""Completions of any model for any prompts, its KL to a reference, and scores of a reward model.

Models may read different tokens. Where two tokenizers are the same, token ids pass from model to
model as they were sampled; where they are not, a reward model reads the text in its own tokens,
and there is no KL to a reference.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.samples import Samples, Scores
from models.language.config import SamplingConfig
from models.language.folders import (
    load_causal_model,
    load_frozen,
    load_reward_model,
    load_tokenizer,
    same_tokenizer,
)
from models.language.generation import encode_to_fit, sample_completions
from models.language.scoring import SequenceScorer
from models.language.sequences import Sequences, TokenDistribution, map_chunks, token_logprobs
from models.language.tokenizer import (
    NO_LIMIT,
    Messages,
    as_completion,
    decode_completions,
    encode_completions,
    encode_prompts,
)
from models.runtime import Log, TrainingRun

logger = logging.getLogger(__name__)

CHUNK_TOKENS = 16384
"""Tokens that a frozen model is given at once."""

Step: TypeAlias = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledModels:
    """What models said, and what reward models say of it.

    Attributes:
        samples: By model.
        scores: By judge, then by model.
        steps: How many were logged.
    """

    samples: Mapping[str, Samples]
    scores: Mapping[str, Mapping[str, Scores]]
    steps: int


def sample_and_score(
    *,
    models: Mapping[str, Path],
    prompts: Sequence[str | Messages],
    reward_models: Mapping[str, Path],
    samples_per_prompt: int,
    sampling: SamplingConfig,
    run: TrainingRun,
    reference: Path | None = None,
) -> SampledModels:
    """Sample every model and have reward models score the samples.

    Args:
        models: Folders by name.
        reward_models: Folders by the judge that each is.
        run: Its seed is that of the draws, the same for all models; its log gets the seconds of
            each step.
        reference: Folder of the model to which the KL is measured.

    Raises:
        ModelError: A folder is incomplete, damaged, or holds another kind of model.
    """
    step = log_seconds(run.log)
    scorers = {judge: RewardScorer(one, run.device) for judge, one in reward_models.items()}
    samples: dict[str, Samples] = {}
    for name, folder in models.items():
        with step("sampling"):
            samples[name] = sample_model(
                folder, prompts, samples_per_prompt=samples_per_prompt, sampling=sampling,
                seed=run.seed, device=run.device, reference=reference,
            )  # fmt: skip
    scores: dict[str, dict[str, Scores]] = {}
    for judge, scorer in scorers.items():
        with step(f"judge_{judge}"):
            scores[judge] = {
                name: scorer.score(prompts, one, models[name]) for name, one in samples.items()
            }
    return SampledModels(samples=samples, scores=scores, steps=len(samples) + len(scores))


def log_seconds(log: Log, done: int = 0) -> Step:
    """Wrap steps to log how long each took, `time/<what>_seconds`.

    Args:
        done: Steps that were logged before.
    """
    numbers = itertools.count(done + 1)

    @contextmanager
    def step(what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        log({f"time/{what}_seconds": time.monotonic() - started}, next(numbers))

    return step


def sample_model(
    model: Path,
    prompts: Sequence[str | Messages],
    *,
    samples_per_prompt: int,
    sampling: SamplingConfig,
    seed: int,
    device: str,
    reference: Path | None = None,
) -> Samples:
    """Sample one model, all prompts in one go.

    Args:
        seed: Of the draws; the same for every model that is compared.
        reference: Folder of the model to which the KL is measured, under the same sampling.

    Raises:
        ModelError: A folder is incomplete, damaged, or holds another kind of model.
        ParameterError: The longest completion leaves no room for any prompt.
    """
    tokenizer = load_tokenizer(model, wants_template=not isinstance(prompts[0], str))
    network = load_frozen(load_causal_model, model, device)
    encoded = encode_to_fit(tokenizer, network, prompts, sampling)
    repeated = [ids for ids in encoded for _ in range(samples_per_prompt)]
    completions = sample_completions(
        network,
        repeated,
        sampling=sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(seed),
    )
    token_ids = [one.token_ids for one in completions]
    shape = (len(encoded), samples_per_prompt)
    kl = None
    if reference is not None:
        sequences = Sequences.from_lists(repeated, token_ids, device=device)
        distribution = TokenDistribution.of(sampling, tokenizer.eos_token_id)
        kl = _divergence(network, model, reference, sequences, distribution)
    asked = [prompt for prompt in prompts for _ in range(samples_per_prompt)]
    texts = decode_completions(tokenizer, token_ids, asked)
    starts = range(0, len(texts), samples_per_prompt)
    return Samples(
        texts=[texts[start : start + samples_per_prompt] for start in starts],
        prompt_ids=encoded,
        token_ids=[token_ids[start : start + samples_per_prompt] for start in starts],
        finished=np.array([one.finished for one in completions]).reshape(shape),
        kl=None if kl is None else kl.reshape(shape),
    )


class RewardScorer:
    """A reward model that scores samples of any models, in its own tokens where theirs differ."""

    def __init__(self, folder: Path, device: str) -> None:
        """Load the reward model.

        Raises:
            ModelError: The folder holds none.
        """
        self._folder = folder
        self._tokenizer = load_tokenizer(folder)
        network = load_frozen(load_reward_model, folder, device)
        self._context: int = network.config.max_position_embeddings
        self._scorer = SequenceScorer(network, CHUNK_TOKENS)

    def score(self, prompts: Sequence[str | Messages], samples: Samples, model: Path) -> Scores:
        """Score every sample.

        Args:
            model: Its folder, whose tokenizer tells what the token ids mean.
        """
        rows = [ids[-self._context :] for ids in self._encode(prompts, samples, model)]
        return Scores(score=self._scorer.score(rows).reshape(samples.shape))

    def _encode(
        self, prompts: Sequence[str | Messages], samples: Samples, model: Path
    ) -> list[list[int]]:
        if same_tokenizer(self._folder, model):
            return [
                [*prompt, *ids]
                for prompt, group in zip(samples.prompt_ids, samples.token_ids, strict=True)
                for ids in group
            ]
        asked = encode_prompts(self._tokenizer, prompts, NO_LIMIT)
        rows = [index for index in range(len(asked)) for _ in range(samples.shape[1])]
        texts = zip(rows, samples.flat_texts(), strict=True)
        said = encode_completions(
            self._tokenizer, [as_completion(prompts[row], text) for row, text in texts]
        )
        ended = zip(rows, said, samples.finished.flat, strict=True)
        return [[*asked[row], *(ids if end else ids[:-1])] for row, ids, end in ended]


def _divergence(
    network: Any,
    model: Path,
    reference: Path,
    sequences: Sequences,
    distribution: TokenDistribution,
) -> NDArray[np.float64] | None:
    """Log-ratio of each completion to the reference, (completions,); None where it has no meaning.

    Source:
        Schulman, Approximating KL Divergence (2020): k1 = log p(x) - log q(x), x from p.
    """
    if reference.samefile(model):
        return np.zeros(len(sequences.lengths))
    if not same_tokenizer(model, reference):
        logger.warning(
            "the tokenizers of %s and of the reference %s differ, so there is no KL between them; "
            "name a reference with the same tokenizer to have one",
            model, reference,
        )  # fmt: skip
        return None
    other = load_frozen(load_causal_model, reference, network.device)
    longest, context = int(sequences.lengths.max()), other.config.max_position_embeddings
    if longest > context:
        logger.warning(
            "prompts and completions have up to %d tokens, more than the reference's context of "
            "%d, so there is no KL to it; lower sampling.max_completion_tokens or shorten prompts",
            longest, context,
        )  # fmt: skip
        return None

    def summed(policy: Any) -> torch.Tensor:
        return map_chunks(
            lambda rows: token_logprobs(policy, rows, distribution=distribution).logprobs.sum(1),
            sequences,
            CHUNK_TOKENS,
            what="measuring the KL of",
        )

    ratios: NDArray[np.float64] = (summed(network) - summed(other)).double().cpu().numpy()
    return ratios
