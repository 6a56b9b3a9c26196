"""What to change where it does not fit: mild changes first, each by the formulas, then added up."""

from typing import Any

import pytest

from flows.parameters import load_preset
from flows.planning.costs import Known
from flows.planning.memory import Scale, peak
from flows.planning.needs import memory_of
from flows.planning.remedies import explain_fit, parse_memory, remedies
from flows.planning.sizes import NetworkSizes
from models.errors import ParameterError

GB = 10**9
GPU = Scale(gpu=True)
SEVEN = NetworkSizes(
    layers=32, width=4096, vocabulary=32_000, weights=6_738_000_000, feed_forward=11_008,
    attention=4096, keys=4096, gated=True, adapted=2_498_560, linears=7,
)  # fmt: skip
"""Llama 2 7B."""


def known(*settings: str) -> Known:
    parameters: dict[str, Any] = load_preset("quickstart", settings).model_dump(mode="json")
    return Known(parameters=parameters, network=SEVEN)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80GB", 80 * GB), ("80 gb", 80 * GB), ("24G", 24 * GB), ("80GiB", 80 * 2**30),
        ("79.6GiB", int(79.6 * 2**30)), ("512MB", 512 * 10**6), ("1.5T", 1500 * GB),
    ],
)  # fmt: skip
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["80", "GB", "-1GB", "0GB", "80XB", "1e9GB", "80G B", "٣GBs", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="wanted a size with its unit, such as 80GB"):
        parse_memory(text)


def test_the_mildest_change_that_fits_comes_last_and_alone() -> None:
    few = known("ppo.lora.rank=16", "reward.lora.rank=16", "ppo.rollouts_per_minibatch=128")
    before = peak(memory_of("ppo", few, GPU), GPU)
    found = remedies("ppo", few, GPU, int(0.9 * before))
    assert [one.changes for one in found] == [("ppo.gradient_checkpointing=true",)]
    changed = known(
        "ppo.lora.rank=16", "reward.lora.rank=16", "ppo.rollouts_per_minibatch=128",
        "ppo.gradient_checkpointing=true",
    )  # fmt: skip
    assert found[0].size == peak(memory_of("ppo", changed, GPU), GPU) < before


def test_changes_are_added_up_where_none_is_enough() -> None:
    """Four networks of 7 billion weights: 250 GB in full, two trunks of adapters 54 GB."""
    found = remedies("ppo", known(), GPU, 40 * GB)
    *single, together, processes = found
    assert not any(one.fits for one in single)
    assert together.fits
    assert together.size <= 40 * GB
    assert {"ppo.lora.rank=16", "reward.lora.rank=16"} <= set(together.changes)
    assert together.size == peak(memory_of("ppo", known(*together.changes), GPU), GPU)
    assert processes.changes[1:] == ("QUARTET_SHARDING=full",)


def test_more_processes_help_on_gpus_only() -> None:
    assert any("QUARTET_SHARDING=full" in one.changes for one in remedies("ppo", known(), GPU, GB))
    here = remedies("ppo", known(), Scale(), GB)
    assert here
    assert not any("QUARTET" in change for one in here for change in one.changes)


def test_what_samples_only_is_asked_to_sample_less_at_once() -> None:
    long = ("model.context=4096", "sampling.max_completion_tokens=2048")
    k = known("sampling.batch_size=512", *long)
    half, quarter = (
        peak(memory_of("evaluate", known(f"sampling.batch_size={rows}", *long), GPU), GPU)
        for rows in (256, 128)
    )
    assert quarter < half
    (only,) = remedies("evaluate", k, GPU, half - 1)
    assert only.fits
    assert only.size == quarter
    assert only.changes == ("sampling.batch_size=128",)


def test_best_of_n_is_asked_to_train_with_less_as_sft_is() -> None:
    k = known("align=best_of_n", "sampling.batch_size=8")
    changes = [one.changes for one in remedies("best-of-n", k, GPU, 60 * GB)]
    assert changes == [one.changes for one in remedies("sft", k, GPU, 60 * GB)]
    assert changes[-1] == ("sft.lora.rank=16",)


def test_it_says_what_fits_and_what_nothing_can_make_fit() -> None:
    lines = list(explain_fit(known(), GPU, 10**15))
    assert lines == [lines[0]]
    assert lines[0].startswith("All stages fit: ppo takes most")
    text = "\n".join(explain_fit(known(), Scale(), 8 * GB))
    assert "ppo does not fit" in text
    assert "nothing here makes ppo fit" in text
