"""Memory that a training keeps between its steps.

glibc maps each large block anew and gives freed memory back to the kernel at once, so every
activation of every step is faulted in again, page by page and zeroed: a tenth of a small network's
training (`tests/benchmarks/README.md`). Told to keep it, a process holds the most that it ever
needed, which it needs again in the next step. The bits stay the same.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**30


def keep_memory() -> bool:
    """Keep blocks below a gibibyte, and as much free memory.

    Returns:
        Whether the C library can be told so: glibc can, musl and macOS cannot.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    told = [mallopt(option, KEPT_BYTES) for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)]
    return all(told)
