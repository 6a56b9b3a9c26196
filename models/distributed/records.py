"""Values as JSON and back: what passes between a stage and the processes that learn for it.

Plain values, lists, tuples, dictionaries, paths, NumPy arrays, configs and dataclasses; numbers
keep their bits. Nothing is run while reading but the classes' own constructors.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from models.runtime import Log, TrainingRun, ignore

PLAIN = (type(None), bool, int, float, str)


def to_plain(value: Any) -> Any:
    """Turn a value into what JSON can say.

    The log of a `TrainingRun` is left out: it belongs to whoever reads the metrics.

    Raises:
        TypeError: It is of no known kind, such as a function or a tensor.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, list):
        return [to_plain(one) for one in value]
    if isinstance(value, tuple):
        return {"tuple": [to_plain(one) for one in value]}
    if isinstance(value, Mapping):
        return {"pairs": [[to_plain(key), to_plain(one)] for key, one in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str, "shape": value.shape}
    if isinstance(value, BaseModel):
        return {"config": full_name(type(value)), "values": value.model_dump(mode="json")}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [one.name for one in dataclasses.fields(value) if one.init]
        kept = [one for one in names if not (isinstance(value, TrainingRun) and one == "log")]
        values = {name: to_plain(getattr(value, name)) for name in kept}
        return {"record": full_name(type(value)), "values": values}
    raise TypeError(f"a {type(value).__name__} cannot pass to another process: {value!r:.80}")


def from_plain(value: Any, log: Log = ignore) -> Any:
    """Read what `to_plain` made.

    Args:
        log: For each `TrainingRun`.
    """
    if isinstance(value, list):
        return [from_plain(one, log) for one in value]
    if not isinstance(value, dict):
        return value
    if "path" in value:
        return Path(value["path"])
    if "tuple" in value:
        return tuple(from_plain(one, log) for one in value["tuple"])
    if "pairs" in value:
        return {from_plain(key, log): from_plain(one, log) for key, one in value["pairs"]}
    if "array" in value:
        return np.array(value["array"], dtype=value["dtype"]).reshape(value["shape"])
    if "config" in value:
        return find(value["config"]).model_validate(value["values"])
    kind = find(value["record"])
    values = {name: from_plain(one, log) for name, one in value["values"].items()}
    return kind(**values, log=log) if kind is TrainingRun else kind(**values)


def full_name(thing: Any) -> str:
    """Name a class or function of a module: `module:name`."""
    return f"{thing.__module__}:{thing.__qualname__}"


def find(name: str) -> Any:
    """Import what `full_name` named."""
    module, _, inner = name.partition(":")
    return getattr(importlib.import_module(module), inner)
