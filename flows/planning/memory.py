"""What a stage's networks hold in memory, by role and part: pure formulas, in bytes.

Legend: T = tokens of one pass with a gradient, at most `tokens_per_microbatch`; C = those of them
that a head looks at; b = bytes of a weight, 2 in bfloat16. Of one layer the backward pass needs,
for each token, the inputs of both norms and of every matrix, queries, keys, values and what
attention gives, and the factors of the feed-forward product. Checkpointed, only the input of each
layer is kept, and one layer at a time is computed again. An adapter needs the input of its frozen
matrix too, so it saves gradients and moments, not activations.

Not everything is there at the same time. What is held throughout, weights and moments, is counted
fully; of sampling, looking at the rollouts and learning the most demanding. On a CPU malloc keeps
part of what the actor's pass gave back, so there the critic's comes on top of it.

The constants are checked by `tests/benchmarks/memory.py`, which measures runs against this module.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from flows.planning.sizes import NetworkSizes

FLOAT, HALF = 4, 2
HEAD_TOKENS = 2048
"""Positions whose logits exist at once, see `models/language/sequences.py`."""
MOST_LOGITS = 2**28
"""Of more, PPO and DPO keep none, and SFT one tile at a time; on a GPU SFT does so always."""
MOST_READY_BYTES = 2**30
"""Of weights that are laid out again for sampling, see `models/language/decoding.py`."""
LORA_HOLES = 0.65
"""Malloc's loss with adapters: their small outputs lie in the holes that larger ones left, so that
most layers take new memory."""
KEPT = 0.4
"""Share of the smaller of actor's and critic's passes that malloc has not given back when the
larger begins."""

Phase = Literal["held", "sampling", "scoring", "learning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where a stage runs, as far as its memory depends on it.

    Attributes:
        shards: Processes among which every network is cut; with replicas each has all of it.
        tensor_parallel: Processes that share each matrix, and what lies between two of them.
        replicas: Processes that divide the rows of a step.
        gpu: Whether memory is a GPU's, whose allocator reuses what was given back.
        side_by_side: Whether actor and critic learn at the same time, in two threads of a CPU.
        half: Whether the device computes in bfloat16 where precision is left open.
    """

    shards: int = 1
    tensor_parallel: int = 1
    replicas: int = 1
    gpu: bool = False
    side_by_side: bool = False
    half: bool = False

    @classmethod
    def among(
        cls, processes: int, sharding: str, tensor_parallel: int, *, like: "Scale"
    ) -> "Scale":
        """So many processes of a kind of machine.

        Args:
            sharding: As in the settings; hybrid is two groups that each hold whole networks.
        """
        groups = max(1, processes // tensor_parallel)
        shards = {"replicate": 1, "full": groups, "hybrid": max(1, groups // 2)}[sharding]
        return replace(like, shards=shards, tensor_parallel=tensor_parallel, replicas=groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPart:
    """What one network, or a pass through it, holds.

    Attributes:
        phase: When; what is held is there always.
    """

    role: str
    what: str
    size: int
    phase: Phase = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a stage trains.

    Attributes:
        rank: Of its adapters; 0 trains all weights.
        precision: As in the stage's config.
        checkpointing: Whether activations are computed again instead of kept.
    """

    rank: int = 0
    precision: str = "auto"
    checkpointing: bool = False

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> "Mode":
        """Of a stage's parameters; those of an older run may lack fields."""
        lora = group.get("lora")
        return cls(
            rank=int(lora["rank"]) if lora else 0,
            precision=str(group.get("precision", "auto")),
            checkpointing=bool(group.get("gradient_checkpointing", False)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Formulas:
    """Bytes of one network in one mode, in each process."""

    model: NetworkSizes
    mode: Mode = Mode()
    scale: Scale = Scale()

    @property
    def frozen_bytes(self) -> int:
        """Of a weight that does not learn."""
        half = self.mode.precision == "bfloat16" or (
            self.mode.precision == "auto" and self.scale.half
        )
        return HALF if half else FLOAT

    @property
    def learning_bytes(self) -> int:
        """Of a weight that learns; in bfloat16 it has a master in float32 beside it."""
        return HALF if self.mode.precision == "bfloat16" else FLOAT

    @property
    def value_bytes(self) -> int:
        """Of an activation."""
        return self.frozen_bytes

    @property
    def adapter(self) -> int:
        """Weights of one adapter on all linear layers."""
        return self.mode.rank * self.model.adapted

    @property
    def learned(self) -> int:
        """Weights that learn."""
        return self.adapter if self.mode.rank else self.model.weights

    def _share(self, size: float) -> int:
        return int(size / (self.scale.shards * self.scale.tensor_parallel))

    def weights(self, role: str, *, learning: bool = False) -> MemoryPart:
        """A trunk, with a master of what learns where weights are bfloat16."""
        size = float(self.model.weights * self.frozen_bytes)
        if learning and self.mode.rank:
            size += self.adapter * FLOAT
        elif learning:
            size = float(self.model.weights * self.learning_bytes)
            size += self.model.weights * FLOAT if self.learning_bytes == HALF else 0
        return MemoryPart(role=role, what="weights", size=self._share(size))

    def gathered(self, role: str, phase: Phase) -> list[MemoryPart]:
        """What a spread network holds of others' parts while it computes.

        These are a layer, the next, and the embeddings.
        """
        if self.scale.shards == 1:
            return []
        layer = (self.model.weights - self.model.embeddings) / self.model.layers
        size = int(self.frozen_bytes * (2 * layer + self.model.embeddings))
        return [MemoryPart(role=role, what="gathered", size=size, phase=phase)]

    def trained(self, role: str) -> list[MemoryPart]:
        """Weights, gradients and Adam's two moments of a network that learns."""
        gradient = self.learned * FLOAT  # also of masters, see `models/training/memory.py`
        return [
            self.weights(role, learning=True),
            MemoryPart(role=role, what="gradients", size=self._share(gradient), phase="learning"),
            MemoryPart(role=role, what="optimiser", size=self._share(2 * FLOAT * self.learned)),
            *self.gathered(role, "learning"),
        ]

    def adapter_alone(self, role: str) -> list[MemoryPart]:
        """An adapter that learns on a trunk which is there already."""
        size = FLOAT * self.adapter
        return [
            MemoryPart(role=role, what="weights", size=self._share(size)),
            MemoryPart(role=role, what="gradients", size=self._share(size), phase="learning"),
            MemoryPart(role=role, what="optimiser", size=self._share(2 * size)),
        ]

    def average(self, role: str) -> MemoryPart:
        """The moving average of what learns."""
        return MemoryPart(role=role, what="EMA", size=self._share(FLOAT * self.learned))

    def layer(self, tokens: float) -> float:
        """What one layer keeps of a pass for the backward pass."""
        m, b = self.model, self.value_bytes
        frozen = bool(self.mode.rank)
        norms = 2 * m.width * (FLOAT + (b if frozen else 2 * b))
        attention = b * (3 * m.attention + 2 * m.keys)
        factors = 4 if m.gated else 5
        adapters = FLOAT * self.mode.rank * m.linears
        shared = attention + factors * b * m.feed_forward + adapters
        return tokens * (norms + shared / self.scale.tensor_parallel)

    def activations(self, role: str, tokens: float) -> MemoryPart:
        """What a pass with a gradient keeps in its layers."""
        m = self.model
        size = m.layers * self.layer(tokens)
        if self.mode.checkpointing:
            size = tokens * m.layers * m.width * self.value_bytes + self.layer(tokens)
        if self.mode.rank and not self.scale.gpu:
            size *= 1 + LORA_HOLES
        return MemoryPart(role=role, what="activations", size=int(size), phase="learning")

    def logits(self, role: str, positions: float, *, kept: bool = False) -> MemoryPart:
        """What a head keeps with a gradient, many only if `kept`, and what a piece takes."""
        kept = kept or self.scale.shards * self.scale.tensor_parallel > 1
        many = not kept and positions * self.model.vocabulary > MOST_LOGITS
        pieces = (0.0 if many else positions) + (2 + many) * min(positions, HEAD_TOKENS)
        size = int(FLOAT * self.model.vocabulary * pieces)
        return MemoryPart(role=role, what="logits", size=size, phase="learning")

    def tiled_logits(self, role: str, positions: float) -> MemoryPart:
        """SFT's head: all logits of a pass at once, or in tiles."""
        if self.scale.gpu or positions * self.model.vocabulary > MOST_LOGITS:
            positions = min(positions, HEAD_TOKENS)
        return self.whole_logits(role, positions)

    def whole_logits(self, role: str, positions: float) -> MemoryPart:
        """A head whose logits are all there at once, as trainers of whole batches have it."""
        size = int(4 * FLOAT * self.model.vocabulary * positions)
        return MemoryPart(role=role, what="logits", size=size, phase="learning")

    def looked_at(self, role: str, tokens: float, positions: float) -> list[MemoryPart]:
        """A pass without a gradient: one layer's values, and the logits of one piece."""
        m, b = self.model, self.value_bytes
        layer = tokens * b * (3 * m.width + m.attention + 2 * m.keys + 3 * m.feed_forward)
        head = 3 * FLOAT * m.vocabulary * min(positions, HEAD_TOKENS)
        return [
            MemoryPart(role=role, what="activations", size=int(layer), phase="scoring"),
            MemoryPart(role=role, what="logits", size=int(head), phase="scoring"),
            *self.gathered(role, "scoring"),
        ]

    def sampled(self, role: str, rows: float, prompt: float, longest: float) -> list[MemoryPart]:
        """Sampling: keys and values, a step's logits, on a CPU weights laid out for products."""
        m, b = self.model, self.value_bytes
        cache = rows * longest * 2 * m.layers * m.keys * b / self.scale.tensor_parallel
        prefill = rows * prompt * b * (3 * m.width + m.attention + 2 * m.keys + 3 * m.feed_forward)
        step = rows * m.vocabulary * (3 * FLOAT + 8)
        ready = not self.scale.gpu and b == FLOAT and m.weights * FLOAT <= MOST_READY_BYTES
        prefill += ready * m.weights * FLOAT
        return [
            MemoryPart(role=role, what="KV cache", size=int(cache), phase="sampling"),
            MemoryPart(role=role, what="activations", size=int(prefill), phase="sampling"),
            MemoryPart(role=role, what="logits", size=int(step), phase="sampling"),
            *self.gathered(role, "sampling"),
        ]


def peak(parts: Iterable[MemoryPart], scale: Scale = Scale()) -> int:
    """The most that is there at one time.

    Networks learn one after the other, except side by side; see the module's docstring.
    """
    parts = list(parts)
    held = sum(part.size for part in parts if part.phase == "held")
    phases: list[float] = [0.0]
    for phase in ("sampling", "scoring"):
        by_role = _by_role(parts, phase)
        phases.append(max(by_role.values(), default=0))
    steps = sorted(_by_role(parts, "learning").values())
    if steps:
        others = 1.0 if scale.side_by_side else 0.0 if scale.gpu else KEPT
        phases.append(steps[-1] + others * sum(steps[:-1]))
    return int(held + max(phases))


def least(parts: Iterable[MemoryPart]) -> int:
    """The least that is there at one time: what is sure to be needed on any machine.

    Gradients appear while activations go, and no two networks need to learn at once.
    """
    parts = list(parts)
    held = sum(part.size for part in parts if part.phase == "held")
    gradients = [part.size for part in parts if part.what == "gradients"]
    passes = [part for part in parts if part.what != "gradients"]
    most = [size for phase in ("sampling", "scoring", "learning")
            for size in _by_role(passes, phase).values()]  # fmt: skip
    return held + max([0, *gradients, *most])


def _by_role(parts: Iterable[MemoryPart], phase: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        if part.phase == phase:
            found[part.role] = found.get(part.role, 0) + part.size
    return found
