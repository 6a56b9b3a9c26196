"""What every training entry point is handed besides its config and paths."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

Log: TypeAlias = Callable[[Mapping[str, float], int], None]
"""``log(metrics, step)``: named numbers at a step of the stage."""
