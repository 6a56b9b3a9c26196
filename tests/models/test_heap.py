"""A step of training faults in no memory that the step before had."""

import ctypes
import subprocess
import sys

import pytest

from models.heap import keep_memory

STEPS = """
import resource, sys, torch
from models.runtime import use_device
if sys.argv[1] == "kept":
    use_device("cpu", 1)
for step in range(24):
    if step == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = torch.ones(2**24)  # 64 MiB
    del activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of twenty steps after four others."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library is not glibc")
def test_a_step_faults_in_little() -> None:
    assert faults("kept") * 10 < faults("given back")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_memory()
