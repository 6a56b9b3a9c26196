"""Packed rows against transformers' own padded forward: hidden states, gradients, decoding."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from models.errors import ModelError
from models.language import packing
from models.language.decoding_cache import DecodingCache
from models.language.packing import ATTENTION, packed_hidden, use_packed_attention

# Lengths 5, 5, 1, 9, 3, 3: ragged, some equal neighbours, one of a single token.
LENGTHS = [5, 5, 1, 9, 3, 3]
FAMILIES = ["llama", "gpt2", "mistral", "qwen2"]


def _network(family: str, make_network: Callable[..., Any]) -> Any:
    if family in ("llama", "gpt2"):
        return make_network(family)
    config = AutoConfig.for_model(
        family, vocab_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48, max_position_embeddings=64,
        initializer_range=0.3, pad_token_id=None, bos_token_id=None, eos_token_id=1,
        **({"sliding_window": 4} if family == "mistral" else {}),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def _rows() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, 16, (length,), generator=generator) for length in LENGTHS]


def _padded_hidden(model: Any, rows: list[torch.Tensor]) -> torch.Tensor:
    """transformers' own way: padded on the right, with a mask, SDPA; (tokens, width)."""
    model.set_attn_implementation("sdpa")
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor(LENGTHS)[:, None]
    hidden: torch.Tensor = model.base_model(ids, attention_mask=mask, use_cache=False)[0]
    return hidden[mask]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded_in_hidden_states_and_gradients(
    make_network: Callable[..., Any], family: str
) -> None:
    model, rows = _network(family, make_network), _rows()
    weights = torch.randn(sum(LENGTHS), 32, generator=torch.Generator().manual_seed(1))
    found = []
    for run in (_padded_hidden, lambda m, r: packed_hidden(m, torch.cat(r), LENGTHS)):
        model.zero_grad()
        hidden = run(model, rows)
        (hidden * weights).sum().backward()
        found.append((hidden.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
        assert hidden.std() > 0.3
    (padded, wanted), (packed, got) = found
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=0)
    scale = max(float(gradient.abs().max()) for gradient in wanted)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_decoding_from_the_cache_equals_a_full_forward(
    make_network: Callable[..., Any], family: str
) -> None:
    """Three steps, the second and fourth row leaving after the first."""
    model, rows = _network(family, make_network), _rows()
    more = torch.randint(2, 16, (len(rows), 3), generator=torch.Generator().manual_seed(2))
    cache = DecodingCache(LENGTHS, new_tokens=3, device=torch.device("cpu"))
    packed_hidden(model, torch.cat(rows), LENGTHS, decoding=cache)
    alive = torch.arange(len(rows))
    for step in range(3):
        cache.begin_step()
        got = model.base_model(
            input_ids=more[alive, step : step + 1],
            position_ids=cache.lengths[:, None],
            use_cache=False,
            decoding=cache,
        ).last_hidden_state[:, 0]
        cache.end_step()
        for row, hidden in zip(alive.tolist(), got, strict=True):
            whole = torch.cat([rows[row], more[row, : step + 1]])
            wanted = packed_hidden(model, whole, [len(whole)])[-1]
            torch.testing.assert_close(hidden, wanted, atol=1e-5, rtol=0)
        if step == 0:
            alive = alive[cache.keep(~torch.isin(alive, torch.tensor([1, 3])))]
    assert sorted(alive.tolist()) == [0, 2, 4, 5]


@torch.no_grad()
def test_ordinary_calls_stay_ordinary(make_network: Callable[..., Any]) -> None:
    """A model that was packed once still understands padding, caches and plain rows."""
    model, ids = make_network("llama"), torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    wanted = model(ids, attention_mask=mask).logits
    grown = model.generate(ids[:1], max_new_tokens=5, do_sample=False, pad_token_id=0)
    use_packed_attention(model)
    assert model.config._attn_implementation == ATTENTION
    got = model(ids, attention_mask=mask).logits
    torch.testing.assert_close(got[mask.bool()], wanted[mask.bool()], atol=1e-5, rtol=0)
    again = model.generate(ids[:1], max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert torch.equal(grown, again)


def test_packing_leaves_no_trace_in_what_is_saved(
    make_network: Callable[..., Any], tmp_path: Any
) -> None:
    model = make_network("llama")
    use_packed_attention(model)
    model.save_pretrained(tmp_path)
    assert ATTENTION not in (tmp_path / "config.json").read_text()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"


def test_packing_refuses_what_it_cannot_compute(make_network: Callable[..., Any]) -> None:
    """Attention sinks would silently be left out."""
    model = make_network("llama")
    use_packed_attention(model)
    with pytest.raises(ModelError, match=r"attends with s_aux, .*through adoption"):
        model.base_model(
            torch.tensor([[5, 6]]),
            cu_seq_lens_q=torch.tensor([0, 2]),
            s_aux=torch.zeros(4),
            use_cache=False,
        )


def test_packing_refuses_a_model_with_an_attention_of_its_own() -> None:
    config = AutoConfig.for_model("bloom", vocab_size=16, hidden_size=32, n_layer=1, n_head=4)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match="BloomForCausalLM does not use transformers' attention"):
        packed_hidden(model, torch.tensor([5, 6, 7]), [1, 2])


class OnGPU(torch.Tensor):
    """Says that it lies on a GPU."""

    is_cuda = True  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("weights", "mixed", "sizes", "capability", "reached"),
    [
        (torch.bfloat16, False, (8, 8), (8, 0), True),
        (torch.float32, True, (8, 8), (9, 0), True),  # queries and keys stay so behind RoPE
        (torch.float32, False, (8, 8), (8, 0), False),
        (torch.bfloat16, False, (8, 8), (7, 5), False),  # a T4
        (torch.bfloat16, False, (20, 20), (8, 0), False),
        (torch.bfloat16, False, (512, 512), (8, 0), False),
        (torch.bfloat16, False, (24, 16), (8, 0), False),  # as DeepSeek's
    ],
)
def test_half_precision_on_a_gpu_reaches_flash_attention(
    weights: torch.dtype, mixed: bool, sizes: tuple[int, int], capability: tuple[int, int],
    reached: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[Any] = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(packing, "_flash", lambda *given: seen.append(given) or given[0][0])
    key, value = (torch.randn(1, 2, 5, n, dtype=weights).as_subclass(OnGPU) for n in sizes)
    layer = torch.nn.Module()
    layer.layer_idx = 0  # type: ignore[assignment]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        packing._attend(layer, key, key, value, None, cu_seq_lens_q=torch.tensor([0, 3, 5]))
    assert bool(seen) is reached
    if reached:
        (tensors, boundaries, longest, *_) = seen[0]
        assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
        assert (boundaries.tolist(), longest) == ([0, 3, 5], 3)


def test_keys_and_values_are_cast_once_where_products_are_mixed() -> None:
    """Not the whole cache for each layer and token; what is computed stays the same."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(1, 2, 7, 8, generator=generator)
    query, new = torch.randn(2, 2, 4, 1, 8, generator=generator).unbind(0)
    new = new[:, :2]
    found = []
    for mixed in (True, False):
        cache = DecodingCache([3, 4], new_tokens=2, device=torch.device("cpu"))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            cache.fill(0, prompts, prompts)
        assert cache._keys[0].dtype == (torch.bfloat16 if mixed else torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cache.begin_step()
            found.append(cache.attend(0, query, new, new, None, None))
    assert torch.equal(found[0], found[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlashAttention needs a CUDA GPU")
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_flash_attention_on_a_gpu_equals_sdpa_in_bfloat16(
    make_network: Callable[..., Any], family: str
) -> None:
    model = _network(family, make_network).to("cuda", torch.bfloat16)
    rows = [row.cuda() for row in _rows()]
    packed = packed_hidden(model, torch.cat(rows), LENGTHS)
    alone = torch.cat([packed_hidden(model.float(), row, [len(row)]) for row in rows])
    # bfloat16 has 8 bits; hidden states are of size 1 after the last norm.
    torch.testing.assert_close(packed.float(), alone, atol=0.1, rtol=0)
