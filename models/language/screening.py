"""What is read of a model folder, looked at before any library reads it.

A folder from elsewhere may name files outside itself, sizes that no machine has, or code that it
wants to be run. All of that is refused here, file by file and number by number, so that libraries
only ever see regular files inside the folder. Links must stay inside it; those of a hub cache may
lead to the blobs of their own repository, as the hub's client lays them out.
"""

import itertools
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from models.display import one_line
from models.errors import ModelError
from models.unfit import FLOATS, UNQUANTISED, refuse_quantised, refuse_unfit

READ_ENDINGS = (".json", ".jinja", ".model", ".safetensors", ".spm", ".tiktoken", ".txt")
"""Of the files that loading a model or a tokenizer may read."""

TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

MEGABYTE = 2**20
LARGEST = {".jinja": MEGABYTE, ".safetensors": 2**50}
"""Bytes of a file, by its ending; of all others, which are read whole, `LARGEST_OTHER`."""
LARGEST_OTHER = 64 * MEGABYTE

DEEPEST = 64
"""Nesting of a config."""
LARGEST_COUNT = 100_000
"""Layers, experts or labels: each makes objects before any weight is read."""

SIZES = re.compile(r"(num|n)_.*|(hidden|intermediate|vocab)_size|max_position_embeddings")
LAYERS = re.compile(r"(?!max_window_)(.*_)?n?_?layers?")
COUNTS = re.compile(r".*(experts?|labels|classes)(_per_\w+)?")


def model_files(folder: Path) -> list[str]:
    """Name every file of a folder that loading may read, sorted, relative to the folder.

    Raises:
        ModelError: One of them is no regular file, lies outside the folder or is too large.
    """
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be read ({error.strerror}), a model folder was wanted; check the "
            "path and who may read it"
        ) from error
    refuse_unfit(str(folder), {path.name for path in entries}, folder)
    names = {path.name for path in entries if path.suffix in READ_ENDINGS}
    templates = folder / "additional_chat_templates"
    if templates.is_dir():
        names |= {f"{templates.name}/{path.name}" for path in templates.glob("*.jinja")}
    for name in sorted(names):
        refuse_irregular_file(folder, name)
    shards = set(shards_of(folder).values()) - names
    for name in sorted(shards):
        refuse_irregular_file(folder, name)
    return sorted(names | shards)


def screen_tokenizer(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Refuse a folder whose tokenizer should not be read.

    Returns:
        The config of its model and the tokenizer's own, each empty where there is none.

    Raises:
        ModelError: It lacks files, or one of them is damaged, outside the folder or too large.
    """
    names = model_files(folder)
    found = {name: read_json(folder, name) for name in TOKENIZER_SETTINGS if name in names}
    config = read_json(folder, "config.json") if "config.json" in names else {}
    if config:  # transformers looks there for the kind of tokenizer
        _refuse_config(folder, config)
    return config, found.get(TOKENIZER_SETTINGS[0], {})


def screen_model(folder: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Refuse a folder whose model should not be read.

    Returns:
        Its config, and the number of elements of each tensor.

    Raises:
        ModelError: It lacks files; or one of them is damaged, outside the folder or too large; or
            it asks for another folder, code or a kernel; or its config and weights do not agree.
    """
    names = model_files(folder)
    config = read_json(folder, "config.json")
    if "generation_config.json" in names:
        generation = read_json(folder, "generation_config.json")
        _refuse_generation_config(folder, generation)
    _refuse_config(folder, config)
    sizes = _weight_sizes(folder)
    for key, number in _numbers(config):
        if LAYERS.fullmatch(key) and number > len(sizes):
            raise ModelError(
                f"config.json of {folder} has {key} {number}, its weights hold {len(sizes)} "
                "tensors, at least one for each layer was wanted; copy the model again"
            )
    return config, sizes


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read a small JSON object.

    Raises:
        ModelError: The file is missing, too large, or holds no JSON object.
    """
    refuse_irregular_file(folder, name)
    try:
        value = json.loads((folder / name).read_bytes())
        depth = _depth(value)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{name} of {folder} cannot be read ({_short(error)}), a JSON object was wanted; copy "
            "the file again"
        ) from error
    if not isinstance(value, dict) or depth > DEEPEST:
        got = f"nested {depth} deep" if isinstance(value, dict) else f"a {type(value).__name__}"
        raise ModelError(
            f"{name} of {folder} is {got}, a JSON object at most {DEEPEST} deep was wanted; copy "
            "the file again"
        )
    return value


def refuse_irregular_file(folder: Path, name: str) -> None:
    """Refuse a file that is absent, irregular, outside the folder or too large.

    Raises:
        ModelError: It is.
    """
    path = folder / name
    try:
        real, root = path.resolve(strict=True), folder.resolve()
        status = real.stat()
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except (OSError, RuntimeError, ValueError) as error:  # no file, a circle of links, a NUL
        raise ModelError(
            f"{name} of {folder} cannot be read ({_short(error)}), a file was wanted; copy the "
            "folder again, and check who may read it"
        ) from error
    blobs = root.parent.parent / "blobs"
    cached = root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--")
    if not real.is_relative_to(root) and not (cached and real.is_relative_to(blobs)):
        raise ModelError(
            f"{name} of {folder} lies outside the folder, at {real}; only what is inside is read: "
            "copy the file there in place of the link"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(
            f"{name} of {folder} is no regular file, one was wanted; copy the folder again"
        )
    most = LARGEST.get(path.suffix, LARGEST_OTHER)
    if status.st_size > most:
        raise ModelError(
            f"{name} of {folder} has {status.st_size} bytes, at most {most} were wanted; copy the "
            "file again, or choose another model"
        )


def shards_of(folder: Path) -> dict[str, str]:
    """Tensors and the files that hold them, by the index of the weights; empty without one."""
    if not (folder / WEIGHTS_INDEX).exists():
        return {}
    shards = read_json(folder, WEIGHTS_INDEX).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(one, str) for one in shards.values()):
        raise ModelError(
            f"{WEIGHTS_INDEX} of {folder} has no weight_map of tensors to files, one was wanted; "
            "copy the file again"
        )
    for name in set(shards.values()):
        if not name.endswith(".safetensors") or name.startswith("/") or ".." in name.split("/"):
            raise ModelError(
                f"{WEIGHTS_INDEX} of {folder} names {_short(name)}, the name of a safetensors file "
                "inside the folder was wanted; take the model from where it can be trusted"
            )
    return shards


def _refuse_config(folder: Path, config: dict[str, Any]) -> None:
    architectures = config.get("architectures")
    named = isinstance(architectures, list) and all(isinstance(one, str) for one in architectures)
    if not isinstance(config.get("model_type"), str) or (architectures is not None and not named):
        raise ModelError(
            f"config.json of {folder} has model_type {_short(config.get('model_type'))} and "
            f"architectures {_short(architectures)}, a name and a list of names were wanted; copy "
            "the file again, or choose another model"
        )
    for key, value in _entries(config):
        if key.endswith("attn_implementation") and "/" in str(value):
            raise ModelError(
                f"config.json of {folder} asks for the kernel {_short(value)}, and Quartet runs no "
                f"foreign code; remove {key} from the file, or choose another model"
            )
    for key, number in _numbers(config):
        counted = COUNTS.fullmatch(key) or LAYERS.fullmatch(key)
        if (number < 0 and SIZES.fullmatch(key)) or (number > LARGEST_COUNT and counted):
            raise ModelError(
                f"config.json of {folder} has {key} {number}, a number from 0 on was wanted, of "
                f"layers, experts and labels at most {LARGEST_COUNT}; copy the file again"
            )
    refuse_quantised(str(folder), config)
    if config.get("transformers_weights"):
        raise ModelError(
            f"config.json of {folder} names its weights {_short(config['transformers_weights'])}, "
            f"{WEIGHTS} or {WEIGHTS_INDEX} was wanted; rename them"
        )


def _refuse_generation_config(folder: Path, config: dict[str, Any]) -> None:
    for key, value in config.items():
        ids = value if isinstance(value, list) else [value]
        if key.endswith("_token_id") and not all(one is None or type(one) is int for one in ids):
            raise ModelError(
                f"generation_config.json of {folder} has {key} {_short(value)}, token ids were "
                "wanted; copy the file again, or remove it"
            )


def _weight_sizes(folder: Path) -> dict[str, int]:
    """Every tensor's elements, by the headers of the files that transformers would choose."""
    shards = {} if (folder / WEIGHTS).exists() else shards_of(folder)
    if not shards and not os.path.lexists(folder / WEIGHTS):
        raise ModelError(
            f"{folder} has no {WEIGHTS}, safetensors weights were wanted; convert its weights "
            "with save_pretrained"
        )
    sizes: dict[str, int] = {}
    for name in sorted(set(shards.values())) or [WEIGHTS]:
        refuse_irregular_file(folder, name)
        try:
            with safe_open(folder / name, "np") as file:
                tensors = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
                dtypes = {key: one.get_dtype() for key, one in tensors.items()}
                sizes |= {key: math.prod(one.get_shape()) for key, one in tensors.items()}
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(
                f"{name} of {folder} cannot be read ({_short(error)}), safetensors weights were "
                "wanted; copy the file again"
            ) from error
        for key, dtype in dtypes.items():
            if key.endswith("weight") and dtype not in FLOATS:
                raise ModelError(
                    f"{folder} holds {key} as {dtype}, which is quantised; weights in one of "
                    f"{', '.join(FLOATS)} were wanted: {UNQUANTISED}"
                )
    if absent := sorted(shards.keys() - sizes.keys()):
        raise ModelError(
            f"the weights of {folder} lack {', '.join(absent[:3])} ({len(absent)} in all), which "
            f"{WEIGHTS_INDEX} names; copy the folder again"
        )
    return sizes


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _entries(inner)
    elif isinstance(value, list):
        yield from itertools.chain.from_iterable(map(_entries, value))


def _numbers(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for key, value in _entries(config):
        values = value if isinstance(value, list) else [value]
        yield from ((key, one) for one in values if type(one) is int)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _short(value: object) -> str:
    """A foreign value or error for a message."""
    return one_line(value, 400) if isinstance(value, Exception) else one_line(repr(value), 100)
