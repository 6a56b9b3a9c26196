"""Decoding token by token: the rows under way, in the layout that their model keeps.

`Decoding` prefills the prompts as one packed row and keeps keys and values itself. Models whose
rows cannot be packed (`models/language/packing.py`) prefill them padded on the left and decode with
transformers' own cache, or, where that does not agree with their own forward pass, compute every
row again for each token: exact, and slower by about the length of the completions.

A decoding step multiplies few rows with all weights. Within `ready_weights` these lie in the order
in which oneDNN reads them, so that it need not copy them for each product.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch

from models.language.decoding_cache import DecodingCache
from models.language.packing import no_mask, packed_hidden, row_layout

MOST_READY_BYTES = 2**30
"""Of weights that are laid out a second time."""


@contextmanager
def ready_weights(model: Any) -> Iterator[None]:
    """Lay out a model's linear weights for decoding, on a CPU that has it; no weight may move.

    Logits are the same up to rounding (`torch.ops.mkldnn`, by which torch's compiler packs the
    weights of frozen models). It takes the memory of these weights once more.
    """
    layers = [module for module in model.modules() if type(module) is torch.nn.Linear]
    sizes = {layer.weight.data_ptr(): layer.weight.nbytes for layer in layers}  # tied ones once
    if not all(map(_can_be_ready, layers)) or sum(sizes.values()) > MOST_READY_BYTES:
        yield
        return
    try:
        for layer in layers:
            ordered = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
            vars(layer)["forward"] = partial(_multiply, ordered, layer.bias)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _can_be_ready(layer: torch.nn.Linear) -> bool:
    weight = layer.weight
    plain = type(weight.data) is torch.Tensor and weight.device.type == "cpu"
    has_it = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return has_it and plain and weight.dtype == torch.float32


def _multiply(ordered: torch.Tensor, bias: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, ordered, bias, "none", [], "")
    return product


class Decoding(Protocol):
    """Rows that are being decoded."""

    hidden: torch.Tensor
    """The state after the newest token of each row, (rows, width)."""

    def keep(self, alive: torch.Tensor) -> torch.Tensor:
        """Drop the rows that have ended.

        Args:
            alive: (rows,) bool.

        Returns:
            (rows left,) which old row now stands where.
        """

    def append(self, tokens: torch.Tensor) -> None:
        """Continue each row with a token, (rows,)."""


def decode(model: Any, prompts: Sequence[Sequence[int]], *, new_tokens: int) -> Decoding:
    """Prefill prompts, in the layout of the model.

    Args:
        new_tokens: Most that any row is continued with.
    """
    if row_layout(model) == "packed":
        return _PackedDecoding(model, prompts, new_tokens)
    return (_PaddedDecoding if row_layout(model) == "padded" else _RepeatedDecoding)(model, prompts)


class _PackedDecoding:
    """One packed row, then a preallocated cache."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        self._model, device = model, model.device
        lengths = [len(prompt) for prompt in prompts]
        self._cache = DecodingCache(lengths, new_tokens=new_tokens, device=device)
        packed = torch.tensor([token for prompt in prompts for token in prompt], device=device)
        hidden = packed_hidden(model, packed, lengths, decoding=self._cache)
        self.hidden = hidden[torch.tensor(lengths, device=device).cumsum(0) - 1]

    def keep(self, alive: torch.Tensor) -> torch.Tensor:
        return self._cache.keep(alive)

    def append(self, tokens: torch.Tensor) -> None:
        self._cache.begin_step()
        self.hidden = self._model.base_model(
            input_ids=tokens[:, None],
            attention_mask=no_mask(tokens.device),
            position_ids=self._cache.lengths[:, None],
            use_cache=False,
            decoding=self._cache,
        ).last_hidden_state[:, 0]
        self._cache.end_step()


class _PaddedDecoding:
    """Rows padded on the left, and the cache of transformers."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        ids = [[0] * pad + [*prompt] for pad, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in padding]
        self._mask = torch.tensor(mask, device=model.device)  # (rows, seq)
        self._cache: Any = None
        self._extend(torch.tensor(ids, device=model.device), (self._mask.cumsum(1) - 1).clamp_(0))

    def keep(self, alive: torch.Tensor) -> torch.Tensor:
        order = alive.nonzero().flatten()
        self._cache.batch_select_indices(order)
        self._mask = self._mask[order]
        return order

    def append(self, tokens: torch.Tensor) -> None:
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self._extend(tokens[:, None], self._mask.sum(1, keepdim=True) - 1)

    def _extend(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        outputs = self._model.base_model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = outputs.past_key_values
        self.hidden = outputs.last_hidden_state[:, -1]


class _RepeatedDecoding:
    """No cache: each token costs a forward pass over the whole rows."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._rows = [torch.tensor([*prompt], device=model.device) for prompt in prompts]
        self._compute()

    def keep(self, alive: torch.Tensor) -> torch.Tensor:
        order = alive.nonzero().flatten()
        self._rows = [self._rows[row] for row in order.tolist()]
        return order

    def append(self, tokens: torch.Tensor) -> None:
        self._rows = [
            torch.cat([row, token]) for row, token in zip(self._rows, tokens[:, None], strict=True)
        ]
        self._compute()

    def _compute(self) -> None:
        lengths = [len(row) for row in self._rows]
        hidden = packed_hidden(self._model, torch.cat(self._rows), lengths)
        self.hidden = hidden[torch.tensor(lengths, device=hidden.device).cumsum(0) - 1]
