"""What every training is given besides its config and inputs. Imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from models.errors import ParameterError

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
    """Choose the device and set the CPU threads of this process.

    Args:
        threads: 0 leaves torch's own choice.

    Raises:
        ParameterError: cuda is wanted and there is none.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ParameterError(
            "device cuda is set (QUARTET_DEVICE) but torch finds no CUDA device; "
            "set auto or cpu, or install a CUDA build of torch"
        )
    return "cuda" if device != "cpu" and available else "cpu"
