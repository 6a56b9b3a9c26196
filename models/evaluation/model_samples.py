"""Completions of any model for any prompts, its KL to a reference, and scores of a reward model.

Unlike the evaluation of PPO, nothing says that the models read the same tokens. Where two
tokenizers are the same, token ids pass from model to model as they were sampled; where they are
not, a reward model reads the text in its own tokens, and there is no KL to a reference.

Equal seeds give equal luck to every model, which sharpens comparisons (see
`models/language/generation.py`).
"""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.measures import ModelSamples
from models.language.config import SamplingConfig
from models.language.distribution import TokenDistribution
from models.language.folders import load_causal_model, load_reward_model, load_tokenizer
from models.language.generation import Completion, sample_completions
from models.language.prompts import encode_to_fit, grouped
from models.language.scoring import SequenceScorer
from models.language.sequences import Sequences, map_chunks, token_logprobs
from models.language.tokenizer import Messages, decode_completion, encode_prompts, encode_texts
from models.randomness import derive_seed

logger = logging.getLogger(__name__)

CHUNK_TOKENS = 16384
"""Tokens that a frozen model is given at once."""

NO_LIMIT = 2**31 - 1


def sample_model(
    model: Path,
    prompts: Sequence[str | Messages],
    *,
    samples_per_prompt: int,
    sampling: SamplingConfig,
    seed: int,
    device: str,
    reference: Path | None = None,
) -> ModelSamples:
    """Sample one model, all prompts in one go.

    Args:
        model: Its folder.
        prompts: What is asked.
        samples_per_prompt: Completions of each prompt.
        sampling: Temperature and longest completion.
        seed: Of the draws; the same for every model that is compared.
        device: Where to run.
        reference: Folder of the model to which the KL is measured, under the same sampling.

    Raises:
        ModelError: A folder is incomplete, damaged, or holds another kind of model.
        ParameterError: The longest completion leaves no room for any prompt.
    """
    tokenizer = load_tokenizer(model, wants_template=not isinstance(prompts[0], str))
    network = load_causal_model(model).to(device)
    encoded = encode_to_fit(tokenizer, network, prompts, sampling)
    completions = sample_completions(
        network,
        [ids for ids in encoded for _ in range(samples_per_prompt)],
        sampling=sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(derive_seed(seed, "models.sampling")),
    )
    shape = (len(encoded), samples_per_prompt)
    kl = None
    if reference is not None:
        kl = _divergence(model, device, reference, tokenizer, encoded, completions, sampling)
    texts = [decode_completion(tokenizer, one.token_ids) for one in completions]
    return ModelSamples(
        texts=grouped(texts, samples_per_prompt),
        prompt_ids=encoded,
        token_ids=grouped([one.token_ids for one in completions], samples_per_prompt),
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
        network = load_reward_model(folder).to(device)
        self._context: int = network.config.max_position_embeddings
        self._scorer = SequenceScorer(network, CHUNK_TOKENS)

    def score(
        self, prompts: Sequence[str | Messages], samples: ModelSamples, model: Path
    ) -> NDArray[np.float64]:
        """Score every sample, (prompts, samples).

        Args:
            prompts: What was asked.
            samples: Of the model.
            model: Its folder, whose tokenizer tells what the token ids mean.
        """
        rows = [ids[-self._context :] for ids in self._encode(prompts, samples, model)]
        return self._scorer.score(rows).reshape(samples.shape)

    def _encode(
        self, prompts: Sequence[str | Messages], samples: ModelSamples, model: Path
    ) -> list[list[int]]:
        """Prompt and completion of each sample in the reward model's tokens."""
        if same_tokenizer(self._folder, model):
            return [
                [*prompt, *ids]
                for prompt, group in zip(samples.prompt_ids, samples.token_ids, strict=True)
                for ids in group
            ]
        texts = encode_texts(self._tokenizer, samples.flat_texts())
        ends = [[self._tokenizer.eos_token_id] if one else [] for one in samples.finished.flat]
        asked = encode_prompts(self._tokenizer, prompts, NO_LIMIT)
        repeated = [ids for ids in asked for _ in range(samples.shape[1])]
        return [
            [*prompt, *text, *end] for prompt, text, end in zip(repeated, texts, ends, strict=True)
        ]


def same_tokenizer(first: Path, second: Path) -> bool:
    """Whether two model folders give the same ids to the same text and prompt."""
    return first == second or _tokenizer_identity(first) == _tokenizer_identity(second)


def _tokenizer_identity(folder: Path) -> tuple[Any, ...]:
    """What decides the ids: the trained parts, tokens that were added, and the chat template."""
    parts = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(folder)
    read = ("model", "added_tokens", "normalizer", "pre_tokenizer")
    return (*(parts.get(name) for name in read), tokenizer.chat_template, tokenizer.eos_token_id)


def _divergence(
    model: Path,
    device: str,
    reference: Path,
    tokenizer: Any,
    encoded: list[list[int]],
    completions: list[Completion],
    sampling: SamplingConfig,
) -> NDArray[np.float64] | None:
    """Log-ratio of each completion to the reference, (completions,); None where it has no meaning.

    Source:
        Schulman, Approximating KL Divergence (2020): k1 = log p(x) - log q(x), x from p.
    """
    if reference.samefile(model):
        return np.zeros(len(completions))
    if not same_tokenizer(model, reference):
        logger.warning(
            "the tokenizers of %s and of the reference %s differ, so there is no KL between them; "
            "name a reference with the same tokenizer to have one",
            model, reference,
        )  # fmt: skip
        return None
    other = load_causal_model(reference).to(device)
    samples = len(completions) // len(encoded)
    sequences = Sequences.from_lists(
        [ids for ids in encoded for _ in range(samples)],
        [one.token_ids for one in completions],
        device=device,
    )
    distribution = TokenDistribution.of(sampling, tokenizer.eos_token_id)
    context: int = other.config.max_position_embeddings
    if int(sequences.lengths.max()) > context:
        logger.warning(
            "prompts and completions have up to %d tokens, more than the reference's context of "
            "%d, so there is no KL to it; lower sampling.max_completion_tokens or shorten prompts",
            int(sequences.lengths.max()), context,
        )  # fmt: skip
        return None

    theirs = map_chunks(
        lambda rows: token_logprobs(other, rows, distribution=distribution).logprobs.sum(1),
        sequences,
        CHUNK_TOKENS,
    )
    own = np.array([math.fsum(one.logprobs) for one in completions])  # known from sampling
    ratio: NDArray[np.float64] = own - theirs.double().cpu().numpy()
    return ratio
