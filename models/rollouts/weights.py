"""The actor's weights on their way to a server: through a folder, or by NCCL.

An actor with an adapter goes merged, as a model that any server can load; its own weights stay bit
for bit what they are.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from peft.tuners.lora import LoraLayer

from models.distributed.sharding import gathered_state, is_sharded
from models.distributed.team import current_team
from models.errors import ParameterError, RolloutError, first_line
from models.language.reading import without_progress_bars

Tell = Callable[[str, Mapping[str, Any]], None]
"""``tell(route, body)``: posts to the server and wants its consent, for the whole team."""


class Sender(Protocol):
    """Brings weights to a server; in a team all members call it alike."""

    def send(self, actor: Any, version: str) -> None:
        """Send an actor's weights under a name."""


class FolderSender:
    """Saves the actor as a model folder and tells the server to load it; SGLang's way."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        self._folder, self._tell = folder, tell

    def send(self, actor: Any, version: str) -> None:
        """Save, have it loaded, remove.

        Raises:
            RolloutError: The folder cannot be written, or the server does not load it.
        """
        folder = self._folder / version
        try:
            with without_progress_bars(), gathered_state(actor) as state:
                # In a team all members call this, and the first process writes.
                plain_model(actor).save_pretrained(folder, state_dict=state)
            self._tell(
                "/update_weights_from_disk",
                {"model_path": str(folder), "weight_version": version, "flush_cache": True},
            )
        except OSError as error:
            raise RolloutError(
                f"weights for the rollout server cannot be written to {folder} ({error}); make "
                "room, or name another folder with QUARTET_ROLLOUT_FOLDER"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class NcclSender:
    """Broadcasts the actor to vLLM's workers with TRL's client; needs a GPU, and vLLM here too.

    Never run: vLLM and this project's pinned torch and transformers exclude each other. For one
    training process; several would each join the workers.
    """

    def __init__(self, url: str, headers: Mapping[str, str], device: torch.device, tell: Tell):
        """Join the workers of a server.

        Raises:
            ParameterError: There is no vLLM here, or this process is one of several.
            RolloutError: The server cannot be joined.
        """
        if current_team().size > 1:
            raise ParameterError(
                "QUARTET_ROLLOUT_WEIGHTS is nccl, which one training process can use; set "
                "QUARTET_PROCESSES to 1, or folder"
            )
        try:
            from trl.generation.vllm_client import VLLMClient

            self._client = VLLMClient(base_url=url, connection_timeout=60)
            self._client.session.headers.update(headers)
            self._client.init_communicator(device)
        except ImportError as error:
            raise ParameterError(
                "QUARTET_ROLLOUT_WEIGHTS is nccl, which needs vLLM beside the trainer "
                f"({first_line(error)}); install a vLLM that fits its torch, or set folder"
            ) from error
        except Exception as error:  # the client raises whatever it meets
            raise RolloutError(
                f"the vLLM server at {url} takes no weights by NCCL ({first_line(error)}); start "
                "it with VLLM_SERVER_DEV_MODE=1 and --weight-transfer-config"
            ) from error
        self._tell = tell

    def send(self, actor: Any, version: str) -> None:
        """Broadcast, forget what was cached of prompts, and name the weights."""
        try:
            self._client.update_model_params(plain_model(actor))
            self._client.reset_prefix_cache()
        except Exception as error:
            raise RolloutError(
                f"weights did not reach the vLLM server ({first_line(error)}); see its log"
            ) from error
        self._tell("/update_weight_version", {"new_version": version})


@torch.no_grad()
def plain_model(actor: Any) -> Any:
    """Give the actor without an adapter: itself, or a model of the merged weights, to be saved.

    Weights that no adapter changes are shared with the actor, not copied; buffers that are no
    weights stay empty, so it cannot be run.

    Raises:
        ParameterError: The actor has an adapter and its weights lie in several processes.
    """
    if not getattr(actor, "_hf_peft_config_loaded", False):
        return actor
    if is_sharded(actor):
        raise ParameterError(
            "a rollout server gets the merged weights of ppo.lora, which cannot be merged where "
            "they lie in several processes; set QUARTET_SHARDING to replicate"
        )
    merged = {}
    for name, tensor in actor.state_dict().items():
        if ".lora_" in name:
            continue
        layer, adapted, part = name.rpartition(".base_layer.")
        if adapted and part == "weight":
            module: LoraLayer = actor.get_submodule(layer)
            for adapter in module.active_adapters:
                tensor = tensor + module.get_delta_weight(adapter).to(tensor.dtype)
        merged[f"{layer}.{part}" if adapted else name] = tensor
    with torch.device("meta"):
        plain = type(actor)(actor.config)
    plain.load_state_dict(merged, assign=True)
    plain.tie_weights()
    return plain.eval()
