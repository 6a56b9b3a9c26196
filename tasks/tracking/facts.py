"""Facts that make runs comparable: code, libraries, machine, and what a result cost.

They stand as tags and metrics on the MLflow runs of a pipeline and of its stages. Nothing here
imports torch: a run that reuses everything starts without it.
"""

import functools
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.catalogue import entry
from tasks.results.digests import library_versions
from tasks.results.store import Manifest
from tasks.settings import Settings
from tasks.tracking.client import Tracker

FLOPS_PER_WEIGHT = 6
"""Operations a weight and token: 2 forward, 4 backward. Source: Kaplan et al. 2020, section 2.1."""

INPUT_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in)\.weight$")
OUTPUT_LAYER = re.compile(r"(^|\.)(lm_head|embed_out|score|classifier)\.weight$")
POSITIONS = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings)\.weight$")

GPU_INFORMATION = Path("/proc/driver/nvidia/gpus")
PROCESSOR_INFORMATION = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a published stage cost to make.

    Attributes:
        seconds: Wall time.
        tokens: Tokens learned from, each as often as it was; None where the stage does not say.
        flops: Estimated floating-point operations of learning; None without tokens or weights.
    """

    seconds: float
    tokens: float | None = None
    flops: float | None = None

    def metrics(self) -> dict[str, float]:
        """As the run of the stage shows it."""
        given = {
            "time/seconds": self.seconds,
            "usage/tokens": self.tokens,
            "usage/flops": self.flops,
        }
        return {name: value for name, value in given.items() if value is not None}


def manifest_cost(manifest: Manifest, folder: Path) -> Cost:
    """Read a published stage's cost: its `<stage>/tokens` and the sizes of what it trained.

    FLOPs are 6 N a token (`flops_per_token`). Attention's own products are left out, a few
    percent while a context is short against twelve times the width; sampling and scoring, which
    only run forward, are left out too.

    Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", equation 2.2.
    """
    tokens = manifest.metrics.get(f"{manifest.stage}/tokens")
    networks = [folder / name for name in entry(manifest.stage).networks]
    rate = sum(flops_per_token(network) for network in networks)
    flops = tokens * rate if tokens is not None and rate else None
    return Cost(seconds=manifest.seconds, tokens=tokens, flops=flops)


def flops_per_token(model: Path) -> float:
    """Estimate the operations of learning one token, from the headers of a model's safetensors.

    An input embedding is looked up, not multiplied, so it counts only where it is the output layer
    as well: where none is stored beside it. Embeddings of positions never count.

    Args:
        model: A model folder; weights in one file or in several.

    Returns:
        6 N; 0 where there are no weights or their headers cannot be read.
    """
    sizes: dict[str, int] = {}
    try:
        for path in sorted(model.glob("*.safetensors")):
            sizes |= _tensor_sizes(path)
    except (OSError, ValueError, struct.error):
        return 0.0
    has_output = any(OUTPUT_LAYER.search(name) for name in sizes)
    counted = (
        size
        for name, size in sizes.items()
        if not POSITIONS.search(name) and not (has_output and INPUT_EMBEDDING.search(name))
    )
    return float(FLOPS_PER_WEIGHT * sum(counted))


def _tensor_sizes(path: Path) -> dict[str, int]:
    """Elements of each tensor of a safetensors file: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {
        name: functools.reduce(int.__mul__, entry["shape"], 1)
        for name, entry in header.items()
        if name != "__metadata__"
    }


@functools.cache
def code_tags() -> Mapping[str, str]:
    """Versions of the libraries, and commit and state of the checkout that this runs from.

    Read once a process, which keeps running the code that it was started with.
    """
    versions = {f"version.{library}": text for library, text in library_versions().items()}
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        dirty = bool(git("status", "--porcelain"))
        return versions | {"git.commit": git("rev-parse", "HEAD"), "git.dirty": str(dirty).lower()}
    except (OSError, subprocess.SubprocessError):
        return versions


def hardware_tags(settings: Settings) -> dict[str, str]:
    """Say what the machine is: device, cores of the processor, memory.

    The device is the GPU that training would take, if there is one and the settings allow it.
    """
    gpu = "" if settings.device == "cpu" else _gpu_name()
    tags = {
        "hardware.device": gpu or _processor_name(),
        "hardware.cores": str(_usable_cores()),
    }
    memory = _memory_bytes()
    return tags | ({"hardware.memory_gib": f"{memory / 2**30:.0f}"} if memory else {})


def worker_tags(settings: Settings) -> dict[str, str]:
    """Say what a stage that has computed ran on: the machine, and torch's threads."""
    torch = sys.modules.get("torch")  # where it was not imported, nothing was learned
    threads = {} if torch is None else {"hardware.torch_threads": str(torch.get_num_threads())}
    return hardware_tags(settings) | threads


def _usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    """Memory of the machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


@functools.cache
def _gpu_name() -> str:
    """Name of the first NVIDIA GPU, asked from its driver; empty if there is none."""
    for path in sorted(GPU_INFORMATION.glob("*/information")):
        found = re.search(r"^Model:\s*(.+?)\s*$", _text(path), re.MULTILINE)
        if found:
            return found[1]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        words = [tool, "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return names.strip().partition("\n")[0]


@functools.cache
def _processor_name() -> str:
    """Name of the processor as its maker writes it, else its architecture."""
    found = re.search(r"^model name\s*:\s*(.+?)\s*$", _text(PROCESSOR_INFORMATION), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _text(path: Path) -> str:
    """What the system tells in a file; empty where it does not."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


COSTS = {"time/seconds": "seconds", "usage/tokens": "tokens", "usage/flops": "flops"}
"""A stage's costs as its own run names them, and as they are summed."""

GROUP = "usage/"
"""MLflow shows groups of charts in the order of their names: this one comes after `final/`."""


def headlines(manifest: Manifest) -> dict[str, float]:
    """A stage's few numbers under the names that a parent run has for them."""
    row = entry(manifest.stage)
    if row.final:
        return dict(manifest.metrics)
    wanted = row.headlines
    return {wanted[name]: value for name, value in manifest.metrics.items() if name in wanted}


def show_output(
    tracker: Tracker, parent: str, manifest: Manifest, folder: Path, *, run_id: str = ""
) -> None:
    """Say on a parent run what one stage gave; to do it again changes nothing.

    Args:
        tracker: Where to.
        parent: The parent run.
        manifest: Of the result.
        folder: The result.
        run_id: The run that computed it for this parent, whose cost the parent bears; empty for a
            result that was reused, which cost nothing this time.
    """
    stage = manifest.stage
    tags = {
        f"output.{stage}": f"{stage}/{manifest.digest}",
        f"output.{stage}.run_id": run_id or manifest.run_id,
    }
    cost = {
        f"{GROUP}{stage}_{COSTS[name]}": value
        for name, value in manifest_cost(manifest, folder).metrics().items()
    }
    if not run_id:  # paid for by another run, or by an earlier attempt of this one
        there = tracker.metrics(parent)
        cost = {name: there.get(name, 0.0) for name in cost}
    tracker.log(parent, metrics=headlines(manifest) | cost, tags=tags)


def totals(metrics: Mapping[str, float]) -> dict[str, float]:
    """Sum the costs that stages left on a parent run: `final/seconds`, `final/tokens`, …

    A pipeline that reused everything spent 0 seconds on its stages.
    """
    sums: dict[str, float] = {"final/seconds": 0.0}
    for name, value in metrics.items():
        unit = name.rpartition("_")[2]
        if name.startswith(GROUP) and unit in COSTS.values():
            sums[f"final/{unit}"] = sums.get(f"final/{unit}", 0.0) + value
    return sums


def show_totals(tracker: Tracker, parent: str) -> None:
    """Log the sums on a parent run, unless it shows them already."""
    there = tracker.metrics(parent)
    changed = {name: v for name, v in totals(there).items() if there.get(name) != v}
    if changed:
        tracker.log(parent, metrics=changed)
