"""Facts that make runs comparable: code, libraries, machine, and what a result cost.

They stand as tags and metrics on the MLflow runs of a pipeline and of its stages. Nothing here
imports torch: a run that reuses everything starts without it.
"""

import contextlib
import functools
import json
import math
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from models.evaluation.result import read_outcome, sure_gain
from tasks.catalogue import entry
from tasks.results.digests import library_versions
from tasks.results.store import Manifest
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.queries import tagged

BEST = "final/accepted_gain_low"
"""The lower end of the judged gain at equal length and ending, or of the plain one where no other
was measured, of accepted runs only: the highest is the best run."""

DIGITS = 4
"""Decimals of what people read: MLflow writes all of them out, and cuts what is too long."""

FLOPS_PER_WEIGHT = 6
"""Per weight and token: 2 forward, 4 backward. Source: Kaplan et al. 2020, section 2.1."""

INPUT_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in)\.weight$")
OUTPUT_LAYER = re.compile(r"(^|\.)(lm_head|embed_out|score|classifier)\.weight$")
EXPERT = ".experts."
POSITIONS = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings)\.weight$")

FLOW_RUN_TAG = "prefect.flow_run_id"
HOST_TAG = "quartet.host"
"""Of the machine that works on a run, or did last."""
GPU_INFORMATION = Path("/proc/driver/nvidia/gpus")
PROCESSOR_INFORMATION = Path("/proc/cpuinfo")

GROUP = "usage/"
"""What runs cost. MLflow shows groups of charts in the order of their names: this one is last."""

UNITS = ("seconds", "tokens", "flops")
"""A stage's costs, which its pipeline's run has in sum."""


def manifest_cost(manifest: Manifest, folder: Path) -> dict[str, float]:
    """Read a published stage's cost: its `<stage>/tokens` and the sizes of what it trained.

    FLOPs are 6 N per token (`flops_per_token`). Attention's own products are left out, a few
    percent while a context is short against twelve times the width; sampling and scoring, which
    only run forward, are left out too.

    Returns:
        Metrics of the stage's run: wall time of all attempts in seconds; tokens trained on, each as
        often as it was, where the stage gives them; estimated FLOPs, where there are tokens and
        weights.

    Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", equation 2.2.
    """
    tokens = manifest.metrics.get(f"{manifest.stage}/tokens")
    networks = [folder / name for name in entry(manifest.stage).networks]
    rate = sum(flops_per_token(network) for network in networks)
    cost = {f"{GROUP}seconds": manifest.seconds}
    if tokens is not None:
        cost |= {f"{GROUP}tokens": tokens} | ({f"{GROUP}flops": tokens * rate} if rate else {})
    return cost


def flops_per_token(model: Path) -> float:
    """Estimate the operations of training on one token, from the headers of a model's safetensors.

    An input embedding is looked up, not multiplied, so it counts only where it is the output layer
    as well: where none is stored beside it. Embeddings of positions never count. Of a mixture of
    experts those count that compute a token.

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
    share = _share_of_experts(model)
    counted = (
        size * (share if EXPERT in name else 1)
        for name, size in sizes.items()
        if not POSITIONS.search(name) and not (has_output and INPUT_EMBEDDING.search(name))
    )
    return float(FLOPS_PER_WEIGHT * sum(counted))


def _share_of_experts(model: Path) -> float:
    """Which part of a mixture's experts compute a token; 1 where there is no mixture."""
    try:
        config = json.loads((model / "config.json").read_bytes())
        return float(config["num_experts_per_tok"] / config["num_local_experts"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return 1.0


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
        git("ls-files", "--error-unmatch", Path(__file__).name)  # else installed in some other one
        dirty = bool(git("status", "--porcelain"))
        return versions | {"git.commit": git("rev-parse", "HEAD"), "git.dirty": str(dirty).lower()}
    except (OSError, subprocess.SubprocessError):
        return versions


def hardware_tags(settings: Settings) -> dict[str, str]:
    """Describe the machine: device, usable cores of the processor, memory.

    The device is the GPU that training would take, if there is one and the settings allow it.
    """
    gpu = "" if settings.device == "cpu" else _gpu_name()
    usable = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if usable else os.cpu_count() or 1
    tags = {"hardware.device": gpu or _processor_name(), "hardware.cores": str(cores)}
    with contextlib.suppress(AttributeError, OSError, ValueError):  # the system does not tell
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        tags["hardware.memory_gib"] = f"{memory / 2**30:.0f}"
    return tags


def worker_tags(settings: Settings) -> dict[str, str]:
    """Describe what a computed stage ran on: the machine, and torch's threads."""
    torch = sys.modules.get("torch")  # where it was not imported, nothing was learned
    threads = {} if torch is None else {"hardware.torch_threads": str(torch.get_num_threads())}
    return hardware_tags(settings) | threads


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
    found = re.search(r"^model name\s*:\s*(.+?)\s*$", _text(PROCESSOR_INFORMATION), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def headlines(manifest: Manifest, folder: Path) -> dict[str, float]:
    """What a parent run shows of a stage's numbers.

    Of a decision those that stand for it, `final/gain` and so on, and none beside them, so that a
    list of runs has them in its first columns. MLflow sorts by one number only: `BEST` has it.
    """
    try:
        outcome = read_outcome(folder)
    except (OSError, ValueError, LookupError, TypeError):  # nothing was decided, or it is damaged
        return dict(manifest.metrics) if entry(manifest.stage).final else {}
    numbers = {f"final/{name}": round(value, DIGITS) for name, value in outcome.numbers.items()}
    surely = sure_gain(outcome.numbers)
    if outcome.accepted and math.isfinite(surely):
        numbers[BEST] = round(surely, DIGITS)
    return {"final/accepted": float(outcome.accepted)} | numbers


def show_output(
    tracker: Tracker, parent: str, manifest: Manifest, folder: Path, *, run_id: str = ""
) -> None:
    """Record on a parent run what one stage gave; to do it again changes nothing.

    Args:
        run_id: The run that computed it for this parent; empty for a result that was reused.
    """
    stage = manifest.stage
    tags = {
        f"output.{stage}": f"{stage}/{manifest.digest}",
        f"output.{stage}.run_id": run_id or manifest.run_id,
    }
    tracker.log(parent, metrics=headlines(manifest, folder), tags=tags)


def show_totals(tracker: Tracker, parent: str) -> None:
    """Log what a parent's stages cost in sum: `final/seconds`, `final/tokens`, `final/flops`.

    A reused stage was paid for by another pipeline; who reused everything spent 0 seconds.
    """
    sums = {"final/seconds": 0.0}
    for child in tracker.runs(tagged({"mlflow.parentRunId": parent})):
        if "quartet.reused" not in child.data.tags:
            for unit in UNITS:
                if (cost := child.data.metrics.get(f"{GROUP}{unit}")) is not None:
                    sums[f"final/{unit}"] = sums.get(f"final/{unit}", 0.0) + cost
    there = tracker.metrics(parent)
    if changed := {name: one for name, one in sums.items() if there.get(name) != one}:
        tracker.log(parent, metrics=changed)


def kill_running(tracker: Tracker, parent: str) -> int:
    """End what counts as running of a parent that is not; give how many runs that were."""
    running = tracker.find_tagged({"mlflow.parentRunId": parent}, status="RUNNING")
    for run_id in running:
        tracker.finish(run_id, "KILLED")
    return len(running)


def judged_tags(stage: str, inputs: Mapping[str, str]) -> dict[str, str]:
    """The tag by which the stages that judge a model are found; none of a stage that judges none.

    Args:
        inputs: Digest by role.
    """
    judged = entry(stage).judged(inputs)
    return {"quartet.judged": " ".join(judged)} if judged else {}
