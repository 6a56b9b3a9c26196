"""The device to train on, and its threads."""

import torch

from models.errors import ParameterError


def use_device(device: str, threads: int) -> str:
    """Choose the device and set the CPU threads of this process.

    Args:
        device: auto, cpu or cuda.
        threads: 0 leaves torch's own choice.

    Raises:
        ParameterError: cuda is wanted and there is none.
    """
    if threads:
        torch.set_num_threads(threads)
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ParameterError(
            "device cuda is set (QUARTET_DEVICE) but torch finds no CUDA device; "
            "set auto or cpu, or install a CUDA build of torch"
        )
    return "cuda" if device != "cpu" and available else "cpu"
