"""The distribution that completions are drawn from, and in which every logprob is measured.

One place for what shapes it: sampler, update, reference and evaluation all ask here, so that a
stored logprob and a recomputed one belong to the same distribution. Top-p, top-k and repetition
penalties are left out on purpose.
"""

from dataclasses import dataclass

import torch

from models.language.config import SamplingConfig

IMPOSSIBLE = -1e30
"""Logit of a token that must not come; finite, so that 0 * log 0 stays 0 in entropies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDistribution:
    """How logits become log-probabilities.

    Attributes:
        temperature: Divides the logits.
        min_completion_tokens: EOS cannot come before it is the completion's so-many-th token.
        eos_token_id: The token that is held back.
    """

    temperature: float = 1.0
    min_completion_tokens: int = 1
    eos_token_id: int = -1

    @classmethod
    def of(cls, sampling: SamplingConfig, eos_token_id: int) -> "TokenDistribution":
        """The distribution that `sampling` describes."""
        return cls(
            temperature=sampling.temperature,
            min_completion_tokens=sampling.min_completion_tokens,
            eos_token_id=eos_token_id,
        )

    def log_softmax(self, logits: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Log-probabilities in float32.

        Args:
            logits: (tokens, vocab) of a head, in any precision.
            steps: (tokens,) which token of its completion each one is, from 0.
        """
        logits = logits.float()
        if self.temperature != 1.0:
            logits = logits / self.temperature
        if self.min_completion_tokens > 1:
            early = steps < self.min_completion_tokens - 1
            held = torch.zeros_like(logits, dtype=torch.bool)
            held[:, self.eos_token_id] = early
            logits = logits.masked_fill(held, IMPOSSIBLE)
        return torch.log_softmax(logits, dim=-1)
