"""The sizes of a network, from scratch by its config, else by its config.json and its weights.

Weights are counted, not estimated: the header of a safetensors file names every tensor with its
shape, on the hub as in a folder, and no weight is read. Pure Python, so that a plan needs no torch.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ModelError, ParameterError, first_line
from models.families.config import GROUPED, ArchitectureConfig, kind_of

Shape = tuple[int, ...]

LARGEST_HEADER = 2**27
"""Bytes; a header of more is no header."""
_OF_LAYER = re.compile(r"\.\d+\.")
_NOT_LINEAR = re.compile(r"wpe|experts")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSizes:
    """A language model's sizes.

    Attributes:
        weights: All of them; an output layer that is tied to the embeddings is one table with them.
        idle: Those of experts that do not compute a token, but its others.
        feed_forward: Width of the layers between attention, of all experts that compute a token.
        attention: Of all query heads together, the width of their outputs.
        keys: Of all key-value heads together, the width of a token's keys.
        gated: Whether the feed-forward part is a product of two, as in Llama.
        adapted: Inputs and outputs of all linear layers, what an adapter's weights are in
            proportion to; of experts as peft adapts them.
        linears: Linear layers of one block.
    """

    layers: int
    width: int
    vocabulary: int
    weights: int
    feed_forward: int
    attention: int
    keys: int
    gated: bool
    adapted: int
    linears: int
    idle: int = 0

    @property
    def active(self) -> int:
        """Weights that compute a token."""
        return self.weights - self.idle

    @property
    def embeddings(self) -> int:
        """Weights of one table of token embeddings."""
        return self.vocabulary * self.width

    @classmethod
    def from_scratch(cls, model: ArchitectureConfig, vocabulary: int) -> "NetworkSizes":
        """Of a Transformer that is pretrained; see `models/families/networks.py`.

        A layer of an encoder and the decoder's beside it count as one.
        """
        width, inner, gated = model.width, model.inner_width, model.family in GROUPED
        experts, computing = 1, 1
        if model.family == "mixtral":
            experts, computing = model.experts, model.experts_per_token
        keys = width // model.heads * model.shared_heads
        attention = 2 * width * (width + keys) + (0 if gated else 4 * width)  # weights, biases
        forward = 3 * width * inner if gated else 2 * width * inner + inner + width
        norms = 2 * width if gated else 4 * width
        block = attention + experts * forward + norms + (experts * width if experts > 1 else 0)
        wide = 3 if gated else 2
        linears = 4 + wide
        adapted = 4 * width + 2 * (width + keys) + wide * (width + inner)
        if experts > 1:  # and a router in the place of one of the three
            adapted += width + experts - wide * (width + inner)
            adapted += _adapted_experts(experts, width, inner)
        if model.family == "gpt2":  # one matrix for queries, keys and values
            linears, adapted = linears - 2, adapted - 2 * width
        if kind_of(model.family) == "seq2seq":  # the decoder also attends to the encoder
            block = 2 * block + attention + 2 * width
            linears, adapted = 2 * linears + 4, 2 * adapted + 8 * width
        return cls(
            layers=model.layers,
            width=width,
            vocabulary=vocabulary,
            weights=model.layers * block + _outside(model, vocabulary),
            idle=model.layers * (experts - computing) * forward,
            feed_forward=computing * inner,
            attention=width,
            keys=keys,
            gated=gated,
            adapted=model.layers * adapted,
            linears=linears,
        )

    @classmethod
    def of_model(cls, config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> "NetworkSizes":
        """Of an existing model.

        Args:
            config: Its config.json.
            shapes: Of every tensor, by name.

        Raises:
            KeyError: The config lacks a size.
        """
        config = config.get("text_config", config)
        layers = int(_first(config, "num_hidden_layers", "n_layer", "num_layers"))
        width = int(_first(config, "hidden_size", "n_embd", "d_model"))
        heads = int(_first(config, "num_attention_heads", "n_head", "num_heads"))
        head = int(config.get("head_dim") or width // heads)
        kv_heads = int(config.get("num_key_value_heads") or heads)
        names = ("intermediate_size", "n_inner", "ffn_dim")
        forward = next((int(config[name]) for name in names if config.get(name)), 4 * width)
        blocks = {name: shape for name, shape in shapes.items() if _OF_LAYER.search(name)}
        linear = [shape for name, shape in blocks.items()
                  if len(shape) == 2 and not _NOT_LINEAR.search(name)]  # fmt: skip
        adapted, linears = sum(map(sum, linear)), len(linear) // max(1, layers)
        in_experts = sum(math.prod(shape) for name, shape in blocks.items() if "experts" in name)
        experts, used = 1, 1
        if in_experts:
            experts = int(_first(config, "num_local_experts", "num_experts"))
            used = int(config["num_experts_per_tok"])
            adapted += layers * _adapted_experts(experts, width, forward)
            linears += 2
        tied = config.get("tie_word_embeddings", True)
        counted = (math.prod(shape) for name, shape in shapes.items()
                   if not (tied and name in ("lm_head.weight", "embed_out.weight")))  # fmt: skip
        return cls(
            layers=layers,
            width=width,
            vocabulary=int(config["vocab_size"]),
            weights=sum(counted),
            idle=in_experts - in_experts * used // experts,
            feed_forward=used * forward,
            attention=heads * head,
            keys=kv_heads * head,
            gated=any("gate" in name for name in blocks),
            adapted=adapted,
            linears=linears,
        )


def sizes_in(folder: Path | str) -> NetworkSizes | None:
    """Of the model in a folder; None where there is none, or it does not say its sizes.

    Args:
        folder: Perhaps below a user's, `~/models/small`, or no path at all.
    """
    try:
        folder = Path(folder).expanduser()
        config = json.loads((folder / "config.json").read_bytes())
        return NetworkSizes.of_model(config, tensor_shapes(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return None


def sizes_on_hub(name: str) -> NetworkSizes:
    """Of a model of the hub, `id` or `id@revision`; its weights are not fetched.

    Raises:
        ModelError: The hub is not reached, has no such model, or the model no safetensors.
    """
    from huggingface_hub import HfApi, hf_hub_download  # half a second

    where, _, revision = name.partition("@")
    hub = HfApi()
    try:
        commit = hub.model_info(where, revision=revision or None).sha  # without a network, at once
        config = hf_hub_download(where, "config.json", revision=commit)
        found = hub.get_safetensors_metadata(where, revision=commit)
        shapes = {
            key: tuple(tensor.shape)
            for file in found.files_metadata.values()
            for key, tensor in file.tensors.items()
        }
        return NetworkSizes.of_model(json.loads(Path(config).read_bytes()), shapes)
    except Exception as error:  # the client raises errors of several libraries
        raise ModelError(
            f"the sizes of {name} are not known: the hub did not give them ({first_line(error)}); "
            "wanted a model with config.json and safetensors weights: try again with a network, "
            "or name a folder"
        ) from error


def tensor_shapes(folder: Path) -> dict[str, Shape]:
    """The shape of every tensor in a folder's weights, by name.

    Raises:
        OSError: There are no weights.
        ValueError: A file is no safetensors file.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    names: Iterable[str] = [single.name]
    if not single.exists():
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    found: dict[str, Shape] = {}
    for name in names:
        found |= _shapes_in_file(folder / name)
    return found


def _shapes_in_file(path: Path) -> dict[str, Shape]:
    """Eight bytes say how long the header is, which is JSON.

    Source: https://huggingface.co/docs/safetensors, "Format".
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= LARGEST_HEADER:
            raise ValueError(f"{path} is no safetensors file")
        header = json.loads(file.read(length))
    return {
        name: tuple(map(int, one["shape"]))
        for name, one in header.items()
        if name != "__metadata__"
    }


def _adapted_experts(experts: int, width: int, inner: int) -> int:
    """Of one block: peft adapts all experts' two gated matrices as one, of twice the rank."""
    return experts * (2 * (width + 2 * inner) + width + inner)


def _outside(model: ArchitectureConfig, vocabulary: int) -> int:
    """Weights outside the layers: embeddings, positions, last norms, heads."""
    width = model.width
    table, norm = vocabulary * width, 2 * width
    tables = table if model.tied else 2 * table
    match model.family:
        case "llama" | "mixtral":
            return tables + width
        case "gpt2":
            return tables + model.context * width + norm
        case "bert":  # token types; pooler and transform; the tokens' biases; is it the next one?
            dense = 2 * (width**2 + width)
            positions = (model.context + 2) * width
            return table + positions + dense + 2 * norm + vocabulary + 2 * width + 2
        case "bart":  # whose positions begin at 2
            return table + 2 * ((model.context + 2) * width + norm)
        case "transformer":
            return table + 2 * model.context * width
    raise ParameterError(
        f"the sizes of family {model.family} are not planned, wanted a Transformer; count the "
        "weights of the built network"
    )


def _first(config: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if name in config:
            return config[name]
    raise KeyError(names[0])
