"""In which precision a device computes where that is left open."""

from types import SimpleNamespace

import pytest
import torch

from models.runtime import computes_mixed, weights_dtype


@pytest.mark.parametrize(("generation", "mixed"), [(7, False), (8, True)])
def test_bfloat16_is_chosen_only_where_a_gpu_has_it(
    generation: int, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T4, of generation 7, only emulates it, and torch calls that supported."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    gpu = SimpleNamespace(major=generation)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert torch.cuda.is_bf16_supported()
    assert computes_mixed("cuda", "auto") is mixed
    assert weights_dtype("cuda") == (torch.bfloat16 if mixed else torch.float32)
    assert not computes_mixed("cpu", "auto")
