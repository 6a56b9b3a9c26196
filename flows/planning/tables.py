"""Memory as tables: by role and part, for the terminal and for the run's page."""

from collections.abc import Iterable

from flows.planning.memory import MemoryPart

PARTS = (
    "weights",
    "gradients",
    "optimiser",
    "activations",
    "logits",
    "KV cache",
    "rollout",
    "EMA",
)


def rows_by_role(parts: Iterable[MemoryPart]) -> list[tuple[str, ...]]:
    """What each role holds of each part, in MiB; of several passes the larger."""
    sizes: dict[tuple[str, str], int] = {}
    roles: dict[str, None] = {}
    for part in parts:
        roles[part.role] = None
        key = (part.role, part.what)
        sizes[key] = max(part.size, sizes.get(key, 0))
    return [
        (role, *(number(sizes.get((role, what), 0) / 2**20) for what in PARTS)) for role in roles
    ]


def number(value: float | None) -> str:
    """Three digits and a thousand's name: 1.36 M; empty for nothing."""
    for name in ("", "k", "M", "G", "T", "P"):
        if value and value >= 999.5 and name != "P":
            value /= 1000
        elif value:
            return f"{value:.3g} {name}".strip()
    return ""
