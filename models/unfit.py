"""What people give in place of a model: recognised by its files, with the way to a model.

A LoRA adapter, weights quantised for another program, pickled weights, pointers of Git LFS. Looked
at before any library reads the folder, and of a hub's model before anything is downloaded.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from models.display import one_line
from models.errors import ModelError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
OTHER_WEIGHTS = {".gguf": "quantised for llama.cpp", ".h5": "of TensorFlow", ".msgpack": "of JAX"}
FLOATS = ("BF16", "F16", "F32", "F64")
UNQUANTISED = (
    "take the original model, usually the same name without GPTQ, AWQ, bnb-4bit, FP8 or the like; "
    "training needs full precision, so installing a library for quantised weights does not help"
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = 1024
"""Most bytes of a pointer; by the format's own rule they are below this."""


def refuse_unfit(where: str, names: Collection[str], folder: Path | None = None) -> None:
    """Refuse what is plainly something else than a model with safetensors weights.

    Args:
        where: What a message calls it.
        names: Its files.
        folder: Where they lie, if they are here already.

    Raises:
        ModelError: It is something else.
    """
    if ADAPTER_CONFIG in names:
        base = _base(folder / ADAPTER_CONFIG) if folder else ""
        raise ModelError(
            f"{where} holds a LoRA adapter{base and f' of {base}'} ({ADAPTER_CONFIG}), a whole "
            "model was wanted; to merge it into its base, give the base as base.source and this "
            "as base.adapter"
        )
    pointers = [name for name in sorted(names) if folder and _is_pointer(folder / name)]
    if pointers:
        raise ModelError(
            f"{where} holds {pointers[0]} as a Git LFS pointer ({len(pointers)} in all), which "
            "stands for the file; run `git lfs pull` where it was cloned, or download the files"
        )
    if any(name.endswith(".safetensors") for name in names):
        return
    for ending, what in OTHER_WEIGHTS.items():
        if found := sorted(name for name in names if name.endswith(ending)):
            raise ModelError(
                f"{where} holds weights {what} ({found[0]}), safetensors weights were wanted; take "
                "the original model, on the hub usually the same name without the format"
            )
    if found := sorted(name for name in names if name.endswith(PICKLED)):
        raise ModelError(
            f"{where} has no model.safetensors but pickled weights ({found[0]}), which may run "
            "code when they are read; where you trust them, convert them with "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(OUT), or take a revision "
            "of the hub that has safetensors, such as refs/pr/1"
        )


def refuse_quantised(where: str, config: dict[str, Any]) -> None:
    """Refuse a model whose config says that its weights are quantised.

    Raises:
        ModelError: It says so.
    """
    found = config.get("quantization_config") or config.get("compression_config")
    if not found:
        return
    how = found if isinstance(found, dict) else {}
    bits = next((n for n in (8, 4) if how.get(f"load_in_{n}bit")), how.get("bits"))
    method = one_line(str(how.get("quant_method", "an unknown method")), 60)
    depth = f" to {bits} bits" if type(bits) is int else ""
    raise ModelError(
        f"{where} holds weights quantised by {method}{depth} (config.json); weights in one of "
        f"{', '.join(FLOATS)} were wanted: {UNQUANTISED}"
    )


def _base(path: Path) -> str:
    try:
        found = json.loads(path.read_bytes()[: POINTER_BYTES**2])
        return one_line(str(found["base_model_name_or_path"] or ""), 100)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _is_pointer(path: Path) -> bool:
    try:
        if not path.is_file() or path.stat().st_size > POINTER_BYTES:
            return False
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False
