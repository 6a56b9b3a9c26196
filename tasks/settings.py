"""Where Quartet runs: read from the environment by a function, never at import.

Settings never enter a digest and never appear in a run form; what to compute stands in
`flows/parameters.py`.
"""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.display import hide_passwords
from models.errors import ParameterError


class Settings(BaseSettings):
    """Environment variables `QUARTET_HOME`, `QUARTET_TRACKING_URI` and so on."""

    model_config = SettingsConfigDict(env_prefix="QUARTET_", env_ignore_empty=True, frozen=True)

    home: Path = Field(default=Path(".quartet"), description="Folder of all state.")
    tracking_uri: str = Field(
        default="", description="MLflow server; empty: an SQLite file in the home folder."
    )
    experiment: str = Field(default="quartet", description="MLflow experiment of all runs.")
    raters: str = Field(
        default="",
        description="MLflow accounts, separated by commas, whom review queues are assigned to.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to train.")
    threads: int = Field(
        default=0, ge=0, le=4096, description="CPU threads of torch; 0: its own choice."
    )
    processes: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Processes of this host that train together; 0: as many as there are GPUs, 1 "
        "on a CPU.",
    )
    rendezvous: str = Field(
        default="",
        description="HOST:PORT of this host where other hosts join what it trains.",
    )
    nodes: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Hosts that train together; `quartet join` brings the others.",
    )
    sharding: Literal["replicate", "full", "hybrid"] = Field(
        default="replicate",
        description="Whether each process holds whole models, its share of them, or, hybrid, "
        "groups of processes hold shares.",
    )
    tensor_parallel: int = Field(
        default=1, ge=1, le=64, description="Processes that compute each layer together."
    )
    rollout_server: str = Field(
        default="", description="Server that samples PPO's rollouts where they ask for one."
    )
    rollout_requests: int = Field(
        default=8, ge=1, le=4096, description="Requests sent to it at once."
    )
    rollout_weights: Literal["folder", "nccl"] = Field(
        default="folder", description="How it gets weights: a folder, or NCCL (vLLM)."
    )
    rollout_folder: Path | None = Field(
        default=None, description="That it reads weights from; empty: rollouts in the home folder."
    )

    @field_validator("tracking_uri")
    @classmethod
    def _tracker_is_a_server(cls, uri: str) -> str:
        """Refuse what MLflow would take for a database or a folder, and try for minutes."""
        if re.fullmatch(r"[\w.-]+:\d+(/\S*)?", uri):
            raise PydanticCustomError(
                "scheme", f"Input should begin with http:// or https://, as in http://{uri}"
            )
        if uri and not re.fullmatch(r"https?://[^\s/][^\s]*", uri):
            raise PydanticCustomError("server", "Input should be an http(s) address of a server")
        if "@" in uri:
            raise PydanticCustomError(
                "credentials",
                "Input should have no password in it, for it is shown; set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )
        return uri

    @field_validator("rendezvous")
    @classmethod
    def _hosts_meet_at_a_port(cls, address: str) -> str:
        if address and not re.fullmatch(r"[\w.-]+:\d{1,5}", address):
            raise PydanticCustomError("address", "Input should be HOST:PORT, as in 10.0.0.1:29500")
        return address

    @field_validator("nodes")
    @classmethod
    def _nodes_meet(cls, nodes: int, info: ValidationInfo) -> int:
        if nodes > 1 and not info.data.get("rendezvous"):
            raise PydanticCustomError(
                "rendezvous",
                "Input should be 1 without QUARTET_RENDEZVOUS; set that to HOST:PORT of this host",
            )
        return nodes

    @field_validator("tensor_parallel")
    @classmethod
    def _tensor_parallel_divides(cls, wanted: int, info: ValidationInfo) -> int:
        processes = info.data.get("processes", 0)
        if processes % wanted:
            raise PydanticCustomError(
                "divisor",
                f"Input should divide QUARTET_PROCESSES, which is {processes}; change one of them",
            )
        return wanted

    @field_validator("rollout_server")
    @classmethod
    def _rollouts_come_from_a_server(cls, url: str) -> str:
        """Take the address with or without /v1, which every example of a server shows."""
        if url and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
            raise PydanticCustomError("server", "Input should be an http(s) address of a server")
        if "@" in url:
            raise PydanticCustomError(
                "credentials",
                "Input should have no password in it, for it is shown; set QUARTET_ROLLOUT_KEY",
            )
        return url.rstrip("/").removesuffix("/v1").rstrip("/")

    @property
    def rater_names(self) -> list[str]:
        """Whom review queues are assigned to, in lower case as by MLflow."""
        names = (name.strip().lower() for name in self.raters.split(","))
        return list(dict.fromkeys(name for name in names if name))

    @property
    def rollouts(self) -> Path:
        """Where weights lie while a rollout server loads them."""
        return (self.rollout_folder or self.root / "rollouts").expanduser().resolve()

    @property
    def root(self) -> Path:
        """The home folder as an absolute path."""
        return self.home.expanduser().resolve()

    @property
    def store(self) -> Path:
        """Where published stages and checkpoints lie."""
        return self.root / "store"

    @property
    def cache(self) -> Path:
        """Where lies what can be made again."""
        return self.root / "cache"

    @property
    def mlflow_uri(self) -> str:
        """The MLflow server, or the local database that stands in for one."""
        return self.tracking_uri or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def artifact_location(self) -> str | None:
        """Where a local MLflow keeps artifacts; a server decides that itself."""
        return None if self.tracking_uri else (self.root / "mlflow-artifacts").as_uri()


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        ParameterError: A variable has a value that means nothing.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ParameterError(
            "; ".join(
                f"environment variable QUARTET_{str(one['loc'][0]).upper()}: got "
                f"{hide_passwords(repr(one['input']))}, {one['msg'][0].lower()}{one['msg'][1:]}"
                for one in error.errors()
            )
        ) from error
