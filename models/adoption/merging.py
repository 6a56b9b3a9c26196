"""A LoRA adapter from elsewhere, merged into its base model when that is adopted.

peft does the merging. Of the adapter's config only what says where the low-rank matrices belong is
read; weights are safetensors, every one of them must find its place, and no code comes along.
"""

import math
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file

from models.display import one_line
from models.errors import ModelError
from models.language.reading import foreign_errors, without_progress_bars
from models.language.screening import read_json, refuse_irregular_file
from models.unfit import ADAPTER_CONFIG, ADAPTER_WEIGHTS

FIELDS = (
    "r", "lora_alpha", "target_modules", "use_rslora", "use_dora", "bias", "fan_in_fan_out",
    "rank_pattern", "alpha_pattern", "layers_to_transform", "modules_to_save",
)  # fmt: skip
"""Of an adapter's config: what its weights mean."""

LARGEST_RANK = 65_536
NAME = re.compile(r"[\w.]{1,200}")
"""Of a layer; peft would take it for a regular expression."""

ADDED = re.compile(r"\.(lora_\w+|modules_to_save)\.")
"""In the names of what an adapter adds to a model."""


def adapter_files(name: str) -> Path:
    """The folder of an adapter: one here, else fetched from the hub, its two files only.

    Args:
        name: A folder, or a hub id, `id@revision` for another than the main branch.

    Raises:
        ModelError: There is none.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        source, _, revision = name.partition("@")
        remedy = "give the folder of an adapter as peft saves it, or its hub id"
        what = f"{source!r} is no folder here, and as an adapter of the hub"
        with without_progress_bars(), foreign_errors(what, remedy):
            names = [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
            folder = Path(
                snapshot_download(source, revision=revision or None, allow_patterns=names)
            )
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        refuse_irregular_file(folder, file)
    return folder


def merge_adapter(model: Any, folder: Path, base: str) -> Any:
    """Add what an adapter has learned to its base model.

    Args:
        model: The base, changed in place.
        folder: Of `adapter_files`.
        base: What a message calls the base.

    Returns:
        The model without any trace of the adapter.

    Raises:
        ModelError: It is no LoRA adapter, or not one of this base.
    """
    given = read_json(folder, ADAPTER_CONFIG)
    if given.get("peft_type") != "LORA":
        raise ModelError(
            f"{folder} holds an adapter of kind {str(given.get('peft_type'))[:50]!r}, a LORA one "
            "was wanted; merge it with the program that made it, and save the whole model"
        )
    patterns = [given.get(name) or {} for name in ("rank_pattern", "alpha_pattern")]
    targets = given.get("target_modules")
    names = [
        *(targets if isinstance(targets, list) else []),
        *(key for one in patterns for key in one),
    ]
    ranks = [given.get("r"), *patterns[0].values()]
    if (
        not all(type(one) is int and 0 < one <= LARGEST_RANK for one in ranks)
        or not all(isinstance(one, str) and NAME.fullmatch(one) for one in names)
        or not (targets == "all-linear" or isinstance(targets, list))
    ):
        raise ModelError(
            f"{ADAPTER_CONFIG} of {folder} has ranks {str(ranks)[:80]} for {str(targets)[:80]}, "
            f"ranks from 1 to {LARGEST_RANK} and a list of names of layers were wanted; merge it "
            "with the program that made it, and save the whole model"
        )
    what = f"the adapter in {folder} for {base}"
    named = given.get("base_model_name_or_path") or "which it does not name"
    remedy = f"give the base that it was trained on ({one_line(str(named), 100)})"
    with foreign_errors(what, remedy):
        settings = {name: given[name] for name in FIELDS if given.get(name) is not None}
        network = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
        tensors = load_file(folder / ADAPTER_WEIGHTS)
        found = set_peft_model_state_dict(network, tensors)
        lost = found.unexpected_keys
        missing = [one for one in found.missing_keys if ADDED.search(one)]
        if lost or missing:
            raise ModelError(
                f"{what} does not fit: {len(lost)} of its {len(tensors)} weights have no place "
                f"and {len(missing)} are missing ({', '.join([*lost, *missing][:2])}); {remedy}"
            )
        merged = network.merge_and_unload()
    for name, weight in merged.named_parameters():
        if not all(map(math.isfinite, torch.aminmax(weight.detach()))):
            raise ModelError(f"{what} makes {name} NaN or infinite; choose another adapter")
    return merged.requires_grad_(True).eval()
