"""What to change where a stage does not fit, each change computed by the same formulas.

Changes are tried in the order of what they cost: first those that only take time, then adapters and
half precision, which train something else. Where no single one is enough they are added up in that
order, and more processes are the other way.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from flows.planning.costs import Known
from flows.planning.memory import Mode, Scale, peak
from flows.planning.needs import PASSES, memory_of, stages_with_networks
from models.errors import ParameterError

PROCESSES = (2, 4, 8, 16, 32, 64)
LORA = {"rank": 16, "alpha": 32.0}
FEWEST_TOKENS, FEWEST_ROWS = 128, 8
"""Of a pass, and of rows sampled at once: with less it only takes longer."""
GIB = 2**30
PROCESS = GIB
"""Of a process besides its networks: libraries and data in RAM, a context on a GPU."""
POWERS = {"M": 2, "G": 3, "T": 4}


def parse_memory(text: str) -> int:
    """Read a size such as 80GB, 24G or 79.6GiB; GB are 10^9 bytes, GiB 2^30.

    Raises:
        ParameterError: It is no size.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([MGT])(?:(i?)B)?", text.strip(), re.IGNORECASE)
    size = 0
    if found:
        amount, power, binary = found.groups()
        size = int(float(amount) * (1024 if binary else 1000) ** POWERS[power.upper()])
    if size <= 0:
        raise ParameterError(
            f"--memory: got {text[:40]!r}, wanted a size with its unit, such as 80GB, 24G or "
            "79.6GiB"
        )
    return size


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Changes to parameters or settings that lower what a stage takes.

    Attributes:
        changes: Each as it is typed, such as ppo.gradient_checkpointing=true.
        size: Bytes that each process takes then, at most.
    """

    changes: tuple[str, ...]
    size: int
    fits: bool


def explain_fit(known: Known, scale: Scale, limit: int) -> Iterator[str]:
    """Say of each stage that is too much what to change; and if none is, that all fit."""
    room = limit - PROCESS
    device = "a GPU" if scale.gpu else "this machine"
    there = f"{limit / GIB:,.1f} GiB of {device}, 1 of them the process's own"
    sizes = {}
    for stage in stages_with_networks(known):
        sizes[stage] = peak(memory_of(stage, known, scale), scale)
        if sizes[stage] <= room:
            continue
        yield f"{stage} does not fit: {sizes[stage] / GIB:,.1f} GiB wanted, got {there}."
        found = remedies(stage, known, scale, room)
        for one in found:
            fits = "fits" if one.fits else "still too much"
            yield f"  set {' '.join(one.changes)}: {one.size / GIB:,.1f} GiB, {fits}"
        if not any(one.fits for one in found):
            yield f"  nothing here makes {stage} fit: take a smaller model, or a larger device"
    if max(sizes.values(), default=0) <= room:
        most = max(sizes, key=lambda stage: sizes[stage])
        yield f"All stages fit: {most} takes most, {sizes[most] / GIB:,.1f} of {there}."


def remedies(stage: str, known: Known, scale: Scale, limit: int) -> list[Remedy]:
    """What makes a stage fit: single changes, up to the first that does.

    Where none of them is enough, their sum and more processes follow, and if need be both.

    Args:
        limit: Bytes that each process may take.

    Returns:
        Those that lower what it takes; none where nothing helps.
    """
    start = _Attempt(stage=stage, known=known, scale=scale)
    tried: list[_Attempt] = []
    for knob in KNOBS:
        tried += filter(None, [_turned(start, knob, limit)])
        if tried and tried[-1].size <= limit:
            break
    else:
        together = start
        for knob in KNOBS:
            if together.size > limit:
                together = _turned(together, knob, limit) or together
        tried += [together] if len(together.changes) > 1 else []
        tried += filter(None, [_turned(start, _processes, limit)])
        if not any(one.size <= limit for one in tried):
            tried += filter(None, [_turned(together, _processes, limit)])
    return [Remedy(changes=a.changes, size=a.size, fits=a.size <= limit) for a in tried]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    stage: str
    known: Known
    scale: Scale
    changes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return peak(memory_of(self.stage, self.known, self.scale), self.scale)

    @property
    def group(self) -> str:
        """The parameters of the stage's training; empty for one that only samples."""
        group = {"judge": "reward", "best-of-n": "sft"}.get(self.stage, self.stage)
        return group if group in PASSES else ""

    def setting(self, path: str, value: Any) -> "_Attempt":
        """With one field changed; a group is shown by its first field."""
        group, _, name = path.partition(".")
        fields = {**self.known.parameters[group], name: value}
        known = replace(self.known, parameters={**self.known.parameters, group: fields})
        shown = f"{path}={value}".replace("True", "true")
        if isinstance(value, dict):
            shown = f"{path}.rank={value['rank']}"
        return replace(self, known=known, changes=(*self.changes, shown))


def _turned(before: _Attempt, knob: "Knob", limit: int) -> _Attempt | None:
    """The mildest turn of a knob that fits, else the one that lowers most; None if none lowers."""
    best = None
    for made in knob(before):
        if made.size < (best or before).size:
            best = made
        if made.size <= limit:
            return made
    return best


def _checkpointing(a: _Attempt) -> Iterator[_Attempt]:
    if a.known.parameters.get(a.group, {}).get("gradient_checkpointing") is False:
        yield a.setting(f"{a.group}.gradient_checkpointing", True)


def _microbatches(a: _Attempt) -> Iterator[_Attempt]:
    if "tokens_per_microbatch" in a.known.parameters.get(a.group, {}):
        tokens = PASSES[a.group](a.known, a.scale)
        yield from (
            a.setting(f"{a.group}.tokens_per_microbatch", 2**power)
            for power in range(20, 6, -1)
            if FEWEST_TOKENS <= 2**power < tokens
        )


def _sampled_at_once(a: _Attempt) -> Iterator[_Attempt]:
    rows = a.known.get("sampling.batch_size")
    while (rows := rows // 2) >= FEWEST_ROWS:
        yield a.setting("sampling.batch_size", rows)


def _adapters(a: _Attempt) -> Iterator[_Attempt]:
    fields = a.known.parameters.get(a.group, {})
    if "lora" not in fields or Mode.of(fields).rank:
        return
    yield (made := a.setting(f"{a.group}.lora", LORA))
    if a.group == "ppo" and not Mode.of(a.known.parameters["reward"]).rank:
        yield made.setting("reward.lora", LORA)  # then one trunk serves all four roles


def _half(a: _Attempt) -> Iterator[_Attempt]:
    if a.known.parameters.get(a.group, {}).get("precision", "bfloat16") != "bfloat16":
        yield a.setting(f"{a.group}.precision", "bfloat16")


def _processes(a: _Attempt) -> Iterator[_Attempt]:
    if a.group and a.scale.gpu:  # on a CPU they would share the same memory
        for count in PROCESSES:
            if count > a.scale.replicas * a.scale.tensor_parallel:
                scale = Scale.among(count, "full", a.scale.tensor_parallel, like=a.scale)
                shown = (f"QUARTET_PROCESSES={count}", "QUARTET_SHARDING=full")
                yield replace(a, scale=scale, changes=(*a.changes, *shown))


Knob = Callable[[_Attempt], Iterator[_Attempt]]
KNOBS: tuple[Knob, ...] = (
    _checkpointing,
    _microbatches,
    _sampled_at_once,
    _adapters,
    _half,
)
