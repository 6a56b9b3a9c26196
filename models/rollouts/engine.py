"""The protocol of rollout engines, and the one that samples in this process.

An engine means what `sample_completions` means: one completion a prompt, in order, drawn from the
actor's distribution at the temperature of the sampling config and from nothing else, with token ids
in and out. Whoever samples, PPO computes `old_logprobs` itself; what the engine says of its tokens
measures how far its distribution was from the actor's.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Literal, Protocol

import torch

from models.errors import ParameterError
from models.language.config import SamplingConfig
from models.language.generation import Completion, sample_completions
from models.rollouts.config import RolloutServer


class RolloutEngine(Protocol):
    """Samples completions of an actor.

    Attributes:
        exact: Whether its logprobs are the actor's own up to rounding.
    """

    @property
    def exact(self) -> bool: ...

    def update(self, actor: Any, version: int) -> None:
        """Let the next completions come from these weights.

        Args:
            version: Different for different weights of one training.
        """

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: SamplingConfig,
        eos_token_id: int,
        generator: torch.Generator,
    ) -> list[Completion]:
        """Sample one completion for each prompt; arguments as for `sample_completions`."""

    def close(self) -> None:
        """Let go of what it holds."""


class InProcess:
    """Samples here; the default, and the only exact engine."""

    exact = True

    def __init__(self) -> None:
        self._actor: Any = None

    def update(self, actor: Any, version: int) -> None:
        """Take the network itself."""
        self._actor = actor

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: SamplingConfig,
        eos_token_id: int,
        generator: torch.Generator,
    ) -> list[Completion]:
        """Sample with `sample_completions`."""
        return sample_completions(
            self._actor, prompts, sampling=sampling, eos_token_id=eos_token_id, generator=generator
        )

    def close(self) -> None:
        """Hold nothing."""


@contextmanager
def open_engine(
    name: Literal["in_process", "server"], server: RolloutServer | None
) -> Iterator[RolloutEngine]:
    """Give the engine of a training, and close it.

    Raises:
        ParameterError: A server is wanted, and none is known.
    """
    if name == "in_process":
        yield InProcess()
        return
    if server is None:
        raise ParameterError(
            "ppo.rollout_engine is server, but no server is known; set QUARTET_ROLLOUT_SERVER to "
            "its address, or ppo.rollout_engine to in_process"
        )
    from models.rollouts.server import ServerEngine  # builds on this module

    with closing(ServerEngine(server)) as engine:
        yield engine
