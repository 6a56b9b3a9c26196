"""Rows without padding: one packed row, an attention that keeps its parts apart, a decoding cache.

`packed_hidden` joins ragged rows end to end and runs a transformers model on them as one row. The
attention function of this module is registered with transformers' attention interface, so every
causal model that goes through it gets packing unpatched. Which attention it computes follows from
the keyword arguments of the model call:

- `cu_seq_lens_q` (transformers' own name; TRL's padding-free batches carry it too): causal
  attention within each part. Neighbouring parts of equal length share one call of PyTorch's SDPA;
  on a GPU in half precision FlashAttention's variable-length kernel takes the whole row.
- `decoding` (a `DecodingCache`): the new token of each row against its cached keys and values.
- neither: transformers' ordinary SDPA with its ordinary masks.
"""

from itertools import groupby
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from models.errors import ModelError
from models.language.decoding_cache import DecodingCache

ATTENTION = "quartet_packed"
"""The name under which transformers knows the attention function."""


def use_packed_attention(model: Any) -> None:
    """Let a transformers model attend with this module's function; asking twice is free.

    Raises:
        ModelError: The model does not go through transformers' attention interface.
    """
    if model.config._attn_implementation == ATTENTION:
        return
    if not model._supports_attention_backend:
        raise ModelError(
            f"{type(model).__name__} does not use transformers' attention interface, so its rows "
            "cannot be packed; wanted a model that does, such as Llama, Qwen, Mistral or GPT-2"
        )
    model.set_attn_implementation(ATTENTION)


def packed_hidden(
    model: Any,
    input_ids: torch.Tensor,
    lengths: list[int],
    *,
    decoding: DecodingCache | None = None,
) -> torch.Tensor:
    """Run the trunk of a model on packed rows.

    Args:
        input_ids: (tokens,), the rows end to end.
        lengths: Tokens of each row.
        decoding: Keeps keys and values for the tokens to come, if given.

    Returns:
        (tokens, width), the last hidden states.
    """
    use_packed_attention(model)
    device = input_ids.device
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    boundaries = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    boundaries = boundaries.to(device)
    hidden: torch.Tensor = model.base_model(
        input_ids=input_ids[None],
        position_ids=positions[None],
        use_cache=False,
        cu_seq_lens_q=boundaries,
        cu_seq_lens_k=boundaries,
        max_length_q=max(lengths),
        max_length_k=max(lengths),
        decoding=decoding,
    ).last_hidden_state
    return hidden[0]


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    decoding: DecodingCache | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers asks: (1, heads, tokens, head) -> (1, tokens, heads, head)."""
    if cu_seq_lens_q is None and decoding is None:
        ordinary: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return ordinary
    for unknown in ("softcap", "s_aux", "position_bias"):
        if others.get(unknown) is not None:
            raise ModelError(
                f"{type(module).__name__} attends with {unknown}, which packed rows cannot do yet; "
                "wanted plain scaled attention: choose a model such as Llama, Qwen or Mistral"
            )
    layer: int = module.layer_idx  # type: ignore[assignment]
    if cu_seq_lens_q is None:
        assert decoding is not None
        return decoding.attend(layer, query, key, value, scaling, sliding_window), None
    if decoding is not None:
        decoding.fill(layer, key, value)
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and not dropout:
        return _flash(query, key, value, cu_seq_lens_q, scaling, sliding_window), None
    lengths = cu_seq_lens_q.diff().tolist()
    return _per_length(query, key, value, lengths, dropout, scaling, sliding_window), None


def _per_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: list[int],
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """One call of SDPA for each run of equal lengths; (1, tokens, heads, head)."""
    runs = [(length, len(list(run))) for length, run in groupby(lengths)]
    sizes = [length * count for length, count in runs]
    parts = []
    split = [torch.split(one, sizes, dim=2) for one in (query, key, value)]
    for (length, count), *tensors in zip(runs, *split, strict=True):
        q, k, v = (
            # (1, heads, count * length, head) -> (count, heads, length, head)
            one.unflatten(2, (count, length)).squeeze(0).transpose(0, 1)
            for one in tensors
        )
        mask = None
        if sliding_window is not None and sliding_window < length:
            mask = _window_mask(length, sliding_window, query.device)
        attended = scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout, scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip
        parts.append(attended.transpose(1, 2).reshape(1, count * length, *attended.shape[1::2]))
    return torch.cat(parts, dim=1)


def _window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Causal, and at most `window` tokens back, itself included; (length, length) bool."""
    steps = torch.arange(length, device=device)
    back = steps[:, None] - steps
    return (back >= 0) & (back < window)


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """FlashAttention's variable-length kernel, which comes with PyTorch's CUDA builds."""
    longest = int(boundaries.diff().max())
    packed = [one[0].transpose(0, 1).contiguous() for one in (query, key, value)]
    attended = varlen_attn(
        packed[0],
        packed[1],
        packed[2],
        boundaries,
        boundaries,
        longest,
        longest,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(attended, torch.Tensor)  # a tuple only where the log-sum-exp is asked for
    return attended[None]


def _mask(
    *,
    q_length: int,
    kv_length: int,
    attention_mask: torch.Tensor | None = None,
    allow_is_causal_skip: bool = True,
    local_size: int | None = None,
    **others: Any,
) -> torch.Tensor | None:
    """SDPA's mask, but none for a packed row, whose parts the attention keeps apart itself.

    transformers tells a packed row by its positions and then allows no skipping.
    """
    plain = not allow_is_causal_skip or local_size is None
    if attention_mask is None and plain and q_length in (1, kv_length):
        return None
    mask: torch.Tensor | None = sdpa_mask(
        q_length=q_length, kv_length=kv_length, attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip, local_size=local_size, **others,
    )  # fmt: skip
    return mask


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, _mask)
