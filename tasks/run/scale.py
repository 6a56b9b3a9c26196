"""How many processes train together, on how many hosts, and how they share models.

Where a stage runs, and so part of no digest. Its bits depend on it as they do on threads;
therefore the manifest names it.
"""

from dataclasses import dataclass

from models.errors import ParameterError
from tasks.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The processes of a stage.

    Attributes:
        processes: On all hosts together.
        sharding: How they share models: replicate, full or hybrid.
        tensor_parallel: How many of them compute each layer together.
    """

    processes: int = 1
    sharding: str = "replicate"
    tensor_parallel: int = 1
    nodes: int = 1

    @property
    def here(self) -> int:
        """Processes on each host."""
        return self.processes // self.nodes

    def described(self, device: str) -> dict[str, int | str]:
        """What the manifest says of it."""
        if self.processes == 1:
            return {"processes": 1}
        nodes = {"nodes": self.nodes} if self.nodes > 1 else {}
        return {
            "processes": self.processes,
            **nodes,
            "sharding": self.sharding,
            "tensor_parallel": self.tensor_parallel,
            "backend": "gloo" if device == "cpu" else "nccl",
        }


def chosen_scale(settings: Settings, device: str) -> Scale:
    """How many processes the settings mean on a device.

    Args:
        device: As torch calls it.

    Raises:
        ParameterError: The machine has fewer GPUs, or they cannot be grouped as wanted.
    """
    processes = settings.processes or 1
    if device != "cpu":
        import torch

        gpus = torch.cuda.device_count()
        processes = settings.processes or gpus
        if processes > gpus:
            raise ParameterError(
                f"QUARTET_PROCESSES is {processes}, and this machine has {gpus} GPUs; each process "
                f"needs one of its own: set {gpus} or fewer, or 0 for all of them"
            )
    processes *= settings.nodes
    if settings.nodes > 1 and (settings.sharding != "replicate" or settings.tensor_parallel > 1):
        raise ParameterError(
            f"QUARTET_NODES is {settings.nodes}, and hosts share no disk, so each keeps whole "
            "checkpoints; set QUARTET_SHARDING to replicate and QUARTET_TENSOR_PARALLEL to 1"
        )
    tensor_parallel = settings.tensor_parallel
    if processes % tensor_parallel:
        raise ParameterError(
            f"QUARTET_TENSOR_PARALLEL is {tensor_parallel}, which does not divide {processes} "
            "processes; set a divisor of them, or another QUARTET_PROCESSES"
        )
    groups = processes // tensor_parallel
    if settings.sharding == "hybrid" and (groups < 4 or groups % 2):
        raise ParameterError(
            f"QUARTET_SHARDING is hybrid with {groups} processes that learn from rows of their "
            "own; wanted an even number from 4, which makes two groups that each hold the whole "
            "model: set full, or more processes"
        )
    return Scale(
        processes=processes,
        sharding=settings.sharding,
        tensor_parallel=tensor_parallel,
        nodes=settings.nodes,
    )
