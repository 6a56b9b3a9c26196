"""What every training is given besides its config and inputs. Imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from models.config import Precision
from models.errors import ParameterError
from models.heap import keep_memory

if TYPE_CHECKING:
    import torch

Log: TypeAlias = Callable[[Mapping[str, float], int], None]
"""``log(metrics, step)``: named numbers at a step of the stage."""


def ignore(metrics: Mapping[str, float], step: int) -> None:
    """Log nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """Where a training runs, from which seed, and where its results and metrics go.

    Attributes:
        checkpoints: Folder of checkpoints; an interrupted training resumes from the newest one.
        device: "cpu" or an accelerator that torch sees.
        log: Receives metrics by step.
    """

    out: Path
    checkpoints: Path
    seed: int
    device: str
    log: Log


def use_device(device: str, threads: int) -> str:
    """Choose the device, set the CPU threads of this process, and have it keep its memory.

    Args:
        threads: 0 leaves torch's own choice.

    Raises:
        ParameterError: cuda is wanted and there is none.
    """
    import torch

    keep_memory()
    if threads:
        torch.set_num_threads(threads)
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ParameterError(
            "device cuda is set (QUARTET_DEVICE) but torch finds no CUDA device; "
            "set auto or cpu, or install a CUDA build of torch"
        )
    return "cuda" if device != "cpu" and available else "cpu"


def weights_dtype(
    device: str, precision: Precision = "auto", *, learns: bool = False
) -> "torch.dtype":
    """Choose the precision in which weights are loaded.

    Frozen ones are bfloat16 where that is asked for, or left open and the device is a GPU that has
    it. Weights that learn are float32: with `bfloat16` these become the masters.
    """
    import torch

    lowered = precision == "bfloat16" or (precision == "auto" and _has_bfloat16(device))
    return torch.bfloat16 if lowered and not learns else torch.float32


def computes_mixed(device: str, precision: Precision) -> bool:
    """Whether float32 weights are cast to bfloat16 for each forward pass (autocast)."""
    return precision == "auto" and _has_bfloat16(device)


def _has_bfloat16(device: str) -> bool:
    import torch

    # Before Ampere torch has it by emulation, many times slower than float32.
    return device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
