"""Seconds and peak memory of a plan's stages, from what earlier runs of this home folder took.

A stage takes as long as the newest result of its kind did, in proportion to the work. Where there
is none, the machine's speeds are measured once (`tasks/machine/speed.py`).
"""

import contextlib
import json
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.parameters import PipelineParameters
from flows.planning.costs import Known, Work, work_of
from flows.planning.memory import peak
from flows.planning.needs import memory_of, scale_of
from flows.planning.sizes import NetworkSizes, sizes_in, sizes_on_hub
from models.errors import ModelError
from tasks.machine.speed import measured_speeds
from tasks.results.manifests import find_manifest, list_ancestors, list_published
from tasks.results.store import Manifest
from tasks.run.planning import PlannedStage
from tasks.settings import Settings

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
"""What may be one; `sft/3fa81c2b` looks like one too, and the hub has none of that name."""
START_SECONDS = 1.5
"""Of a stage with networks, before and after its work."""
RUN_SECONDS = 2.0
"""Of a run around its stages."""
REUSE_SECONDS = 0.1
ROWS_PER_SECOND = 9000.0
"""Rows that are prepared, or learned from by a tokenizer, where no earlier run says it."""
PROCESS_GIB, STAGE_GIB, MOST_GIB = 0.69, 0.05, 0.98
"""Of a process with all libraries and small data, without its networks; what a stage leaves behind
for those after it; and how much the process grows to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one new stage costs; None where too little is known.

    Attributes:
        networks: Bytes that its networks and passes hold at one time, at most.
        process: GiB that the process holds without networks; 0 on a GPU, whose memory is its own.
    """

    work: Work | None = None
    flops: float | None = None
    seconds: float | None = None
    networks: int = 0
    process: float = 0.0

    @property
    def peak_gib(self) -> float:
        """The process and, if it has networks, the most that they hold at one time."""
        return self.process + self.networks / 2**30


def costs_of(known: Known, stages: Sequence[PlannedStage], settings: Settings) -> list[Cost]:
    """The cost of each stage of a plan; a reused one costs nothing."""
    costs: list[Cost] = []
    for one in stages:
        earlier = sum(cost != Cost() for cost in costs)
        known = replace(known, rounds=known.rounds + _adds_a_round(one.spec.name, one.spec.inputs))
        costs.append(Cost() if one.reused else _cost(one.spec.name, known, settings, earlier))
    return costs


def _adds_a_round(stage: str, inputs: Container[str]) -> bool:
    """Whether a stage collects labels beside those of an earlier one."""
    return stage in ("feedback", "feedback-samples") and "earlier" in inputs


def _cost(stage: str, known: Known, settings: Settings, earlier: int) -> Cost:
    scale = scale_of(settings)
    networks = peak(memory_of(stage, known, scale), scale)
    amount, work = _amount(stage, known)
    newest = _newest(settings.store, stage)
    before = None if newest is None else _known_of_manifest(settings.store, newest)
    process = min(MOST_GIB, PROCESS_GIB + STAGE_GIB * earlier)
    if scale.gpu:  # whose peak is the stage's own
        process = 0.0
        if newest is not None and before is not None and newest.peak_gib:
            then = peak(memory_of(stage, before, scale), scale) / 2**30
            process = max(0.0, newest.peak_gib - then)
    seconds = None
    done = _amount(stage, before)[0] if before is not None else 0.0
    start = START_SECONDS if work is not None and work.tokens else 0.0
    if amount and newest is not None and done:
        seconds = start + max(0.1, newest.seconds - start) * amount / done
    elif amount and known.network is not None and start:
        assert work is not None
        seconds = start + seconds_of(work, known.network, settings)
    elif amount:
        seconds = amount / ROWS_PER_SECOND
    flops = work.flops(known.network.active) if work and known.network else None
    return Cost(work=work, flops=flops, seconds=seconds, networks=networks, process=process)


def seconds_of(work: Work, network: NetworkSizes, settings: Settings) -> float:
    """Of work that was never done here, by this machine's measured speeds."""
    speeds = measured_speeds(
        settings,
        layers=network.layers,
        width=network.width,
        feed_forward=network.feed_forward,
        vocabulary=network.vocabulary,
    )
    sampling = 2 * network.active * work.sampled
    learning = work.flops(network.active) - sampling
    return learning / speeds.training + sampling / speeds.sampling


def _amount(stage: str, known: Known) -> tuple[float, Work | None]:
    """What a stage's seconds are in proportion to, 0 where it is not known; and its work."""
    work = work_of(stage, known)
    if work is None or (work.tokens and known.network is None):
        return 0.0, work
    return work.amount(known.network.active if known.network else 0.0), work


def _newest(store: Path, stage: str) -> Manifest | None:
    found = list(list_published(store, stage))
    return max(found, key=lambda pair: pair[0].stat().st_mtime)[1] if found else None


def _known_of_manifest(store: Path, manifest: Manifest) -> Known:
    """What was known of a published stage: its parameters and its ancestors'."""
    ancestors = [one.manifest for one in list_ancestors(store, manifest) if one.manifest]
    return _merged(store, [*reversed(ancestors), manifest])


def _merged(store: Path, manifests: Sequence[Manifest]) -> Known:
    groups: dict[str, dict[str, Any]] = {}
    numbers: dict[str, float] = {}
    network = None
    for one in manifests:
        for group, values in one.parameters.items():
            if isinstance(values, dict):
                groups[group] = {**groups.get(group, {}), **values}
        folder = store / one.stage / one.digest
        if one.stage == "prepare":
            numbers |= data_numbers(folder)
        numbers |= one.metrics
        network = sizes_in(folder / "model") or network
    rounds = 1 + sum(_adds_a_round(one.stage, one.inputs) for one in manifests)
    return Known(parameters=groups, numbers=numbers, network=network, rounds=rounds)


def known_of_plan(
    p: PipelineParameters,
    stages: Sequence[PlannedStage],
    data: Mapping[str, float],
    settings: Settings,
) -> Known:
    """What is known before a run: its parameters, rows, and results that it will reuse.

    Args:
        data: Rows and characters of data that is not prepared yet, as far as they were counted.
    """
    planned = {one.digest for one in stages}
    digests = {ref.digest: ref for one in stages for ref in one.spec.inputs.values()}
    there = [find_manifest(settings.store, digest) for digest in digests if digest not in planned]
    there += [find_manifest(settings.store, one.digest) for one in stages if one.reused]
    lines: list[Manifest] = []
    for one in filter(None, there):
        lines += [up.manifest for up in list_ancestors(settings.store, one) if up.manifest]
        lines.append(one)
    before = _merged(settings.store, lines)
    from_scratch = any(one.spec.name == "pretrain" for one in stages)
    return Known(
        parameters={**before.parameters, **p.model_dump(mode="json")},
        numbers={**before.numbers, **data},
        network=network_of(p) if from_scratch else before.network or network_of(p),
    )


def network_of(p: PipelineParameters) -> NetworkSizes | None:
    """The sizes of the model from scratch, or of one that is to be taken in from elsewhere."""
    if not p.base.source:
        return NetworkSizes.from_scratch(p.model, p.tokenizer.vocab_size)
    found = sizes_in(p.base.source)
    if found is None and HUB_ID.fullmatch(p.base.source):
        with contextlib.suppress(ModelError):
            found = sizes_on_hub(p.base.name)
    return found


def data_numbers(folder: Path) -> dict[str, float]:
    """Rows and median characters of prepared data, from its quality report."""
    try:
        report = json.loads((folder / "quality.json").read_bytes())
        found: dict[str, float] = {}
        for one in report["collections"]:
            found[f"data/{one['name']}_rows"] = float(one["train"])
            found[f"data/{one['name']}_heldout_rows"] = float(one["heldout"])
            medians = {column: size["median"] for column, size in one["lengths"].items()}
            if one["name"] == "corpus" and medians:
                found["characters/corpus"] = medians["text"]
            elif one["name"] == "demonstrations":
                found["characters/completion"] = medians["completion"]
            elif one["name"] == "prompts":
                found["characters/prompt"] = medians["prompt"]
            elif one["name"] == "preferences":
                found["characters/pair"] = (
                    2 * medians["prompt"] + medians["chosen"] + medians["rejected"]
                )
    except (OSError, ValueError, KeyError):
        return {}
    return found
