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

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from models.errors import ModelError
from models.language.decoding_cache import DecodingCache, computed_in

ATTENTION = "quartet_packed"
"""The name under which transformers knows the attention function."""

LAYOUT = "quartet_row_layout"
"""The field of a model's config that holds its `row_layout`; absent where rows are packed."""


def row_layout(model: Any) -> str:
    """How rows reach a model: packed, or padded or repeated where packed ones come out wrong.

    Adoption decides it by comparing with the model's own forward pass, and the model's config keeps
    it, so what is trained from the model has it too. "repeated" is padded and decodes without a
    cache.
    """
    return str(getattr(model.config, LAYOUT, "packed"))


def use_packed_attention(model: Any) -> None:
    """Let a transformers model attend with this module's function; asking twice is free.

    Raises:
        ModelError: The model does not go through transformers' attention interface.
    """
    if model.config._attn_implementation == ATTENTION or row_layout(model) != "packed":
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
    """Run the trunk of a model on packed rows, or on the same rows padded, by its `row_layout`.

    Args:
        input_ids: (tokens,), the rows end to end.
        lengths: Tokens of each row.
        decoding: Keeps keys and values for the tokens to come, if given.

    Returns:
        (tokens, width), the last hidden states.
    """
    if row_layout(model) != "packed":
        return _padded_hidden(model, input_ids, lengths)
    use_packed_attention(model)
    device = input_ids.device
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    boundaries = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    boundaries = boundaries.to(device)
    hidden: torch.Tensor = model.base_model(
        input_ids=input_ids[None],
        attention_mask=no_mask(device),
        position_ids=positions[None],
        use_cache=False,
        cu_seq_lens_q=boundaries,
        cu_seq_lens_k=boundaries,
        max_length_q=max(lengths),
        max_length_k=max(lengths),
        part_lengths=lengths,  # as numbers too: no layer waits for a GPU to hear them
        decoding=decoding,
    ).last_hidden_state
    return hidden[0]


def no_mask(device: torch.device) -> torch.Tensor:
    """What transformers hands on as it is; given nothing, it waits to hear what is packed."""
    return torch.zeros(1, 1, 1, 1, device=device)


def _padded_hidden(model: Any, input_ids: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """The model's own way: a padded batch and its mask; (tokens, width) in the packed order."""
    ids = pad_sequence(list(torch.split(input_ids, lengths)), batch_first=True)  # (rows, longest)
    ends = torch.tensor(lengths, device=ids.device)[:, None]
    mask = torch.arange(ids.shape[1], device=ids.device) < ends
    hidden: torch.Tensor = model.base_model(
        input_ids=ids, attention_mask=mask.long(), use_cache=False
    ).last_hidden_state
    return hidden[mask]


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    part_lengths: list[int] | None = None,
    decoding: DecodingCache | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers asks: (1, heads, tokens, head) -> (1, tokens, heads, head)."""
    if cu_seq_lens_q is None and decoding is None:
        if softcap is not None:
            return _capped(query, key, value, attention_mask, scaling, softcap), None
        ordinary: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return ordinary
    for unknown in ("s_aux", "position_bias"):
        if others.get(unknown) is not None:
            raise ModelError(
                f"{type(module).__name__} attends with {unknown}, which packed rows cannot do; "
                "take the model through adoption, which gives it padded rows"
            )
    layer: int = module.layer_idx  # type: ignore[assignment]
    if cu_seq_lens_q is None:
        assert decoding is not None
        return decoding.attend(layer, query, key, value, scaling, sliding_window, softcap), None
    if decoding is not None:
        decoding.fill(layer, key, value)
    dtype = computed_in(query)  # float32 weights under autocast leave queries and keys in float32
    if not dropout and not softcap and _flash_takes(query, value, dtype):
        longest = max_length_q or int(cu_seq_lens_q.diff().max())
        halves = (query.to(dtype), key.to(dtype), value.to(dtype))
        return _flash(halves, cu_seq_lens_q, longest, scaling, sliding_window), None
    lengths = part_lengths or cu_seq_lens_q.diff().tolist()
    return _per_length(query, key, value, lengths, dropout, scaling, sliding_window, softcap), None


def _per_length(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int],
    dropout: float, scaling: float | None, sliding_window: int | None, softcap: float | None,
) -> torch.Tensor:  # fmt: skip
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
        if softcap is not None:
            capped = _capped(q, k, v, mask, scaling, softcap)
            parts.append(capped.reshape(1, count * length, *capped.shape[2:]))
            continue
        attended = scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout, scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip
        parts.append(attended.transpose(1, 2).reshape(1, count * length, *attended.shape[1::2]))
    return torch.cat(parts, dim=1)


def _capped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None,
    scaling: float | None, softcap: float,
) -> torch.Tensor:  # fmt: skip
    """Attention with softly capped scores, causal where no mask is given; (rows, q, heads, head).

    Source: Gemma Team, Gemma 2 (2024), section 2: softcap * tanh(scores / softcap).
    """
    rows, heads, length, size = query.shape
    scale = size**-0.5 if scaling is None else scaling
    grouped = query.reshape(rows, key.shape[1], -1, length, size)  # (rows, kv, group, q, head)
    scores = torch.matmul(grouped, key[:, :, None].transpose(3, 4)) * scale
    scores = softcap * torch.tanh(scores / softcap)
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device)
    seen = seen.tril(key.shape[2] - length) if mask is None else mask[..., None, :, :]
    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    attended = torch.matmul(weights, value[:, :, None])
    return attended.reshape(rows, heads, length, -1).transpose(1, 2)


def _window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Causal, and at most `window` tokens back, itself included; (length, length) bool."""
    steps = torch.arange(length, device=device)
    back = steps[:, None] - steps
    return (back >= 0) & (back < window)


def _flash_takes(query: torch.Tensor, value: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether FlashAttention has a kernel: in half precision, on NVIDIA's Ampere and later."""
    size = query.shape[-1]
    fits = size == value.shape[-1] and size % 8 == 0 and size <= 256
    if not query.is_cuda or dtype not in (torch.bfloat16, torch.float16) or not fits:
        return False
    return torch.cuda.get_device_capability(query.device) >= (8, 0)


def _flash(
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    boundaries: torch.Tensor,
    longest: int,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """FlashAttention's variable-length kernel, which comes with PyTorch's CUDA builds."""
    query, key, value = (one[0].transpose(0, 1).contiguous() for one in tensors)
    attended = varlen_attn(
        query, key, value, boundaries, boundaries, longest, longest,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
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


def cut_rows(
    lengths: Sequence[int], max_tokens: int, *, group: int | None = None, shares: int = 1
) -> Iterator[slice]:
    """Cut rows, in their order, into runs of at most so many tokens; a longer row stands alone.

    Args:
        lengths: Tokens of each row.
        group: No run crosses from one group of so many rows into the next.
        shares: For how many there shall be work: no run is longer than this part of its group.
    """
    group = group or max(1, len(lengths))
    start, most = 0, max_tokens
    while start < len(lengths):
        last = min(len(lengths), start - start % group + group)
        if start % group == 0:
            most = min(max_tokens, -(-sum(lengths[start:last]) // shares))
        end, tokens = start + 1, lengths[start]
        while end < last and tokens + lengths[end] <= most:
            tokens += lengths[end]
            end += 1
        yield slice(start, end)
        start = end
