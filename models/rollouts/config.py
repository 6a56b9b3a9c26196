"""Where a rollout server is. Imports no torch."""

from pathlib import Path
from typing import Literal, TypeAlias

from models.config import Config, Count

SendWeights: TypeAlias = Literal["folder", "nccl"]


class RolloutServer(Config):
    """A server that samples, and how it gets the actor's weights."""

    url: str
    """Without /v1."""
    key_file: Path | None = None
    """Holds the key that requests bring; none = no key."""
    requests: Count = 8
    """Sent at once."""
    weights: SendWeights = "folder"
    """folder: saved there, and the server told to load them; nccl: through TRL's client to vLLM."""
    folder: Path
    """That both see; weights are saved below it and removed once they are loaded."""
