"""How much memory this machine gives a run: its RAM, or less in a container, and the GPU's."""

import os
import resource
import sys
from pathlib import Path
from typing import Any

_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))


def main_memory() -> int:
    """The bytes of RAM, or of the container's limit if that is lower."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CONTAINER_LIMITS:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue  # no such kind of container
        if text.isdecimal():  # else "max": no limit
            limits.append(int(text))
    return min(limits)


def gpu_memory(device: str) -> int | None:
    """The bytes of the GPU that would train; None if the CPU would.

    Args:
        device: As in the settings: auto, cpu or cuda.
    """
    if device == "cpu" or not any(path.exists() for path in _GPU_DEVICES):
        return None
    import torch  # slow to import: only where there may be a GPU

    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)


def peak_memory() -> int:
    """The most bytes that this process has held: on the GPU if it trains there, else in RAM."""
    torch: Any = sys.modules.get("torch")  # where it was not imported, nothing was learned
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Begin to measure the GPU's peak anew; a process's own cannot be forgotten."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
