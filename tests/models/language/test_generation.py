"""Sampling: the same tokens as a naive loop, whatever the batch, and the model's distribution."""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from models.errors import ParameterError
from models.language import decoding, generation
from models.language.config import SamplingConfig
from models.language.generation import Completion, sample_completions
from models.language.sequences import Sequences, TokenDistribution, token_logprobs

EOS = 1
# Lengths 3, 1, 7, 2, 7, 4, 1, 9: ragged and not in order, one prompt twice, one with an EOS inside.
PROMPTS = [
    [5, 6, 7],
    [2],
    [3, 9, 4, 4, 8, 2, 15],
    [12, 13],
    [3, 9, 4, 4, 8, 2, 15],
    [7, EOS, 7, 10],
    [14],
    [2, 3, 4, 5, 6, 7, 8, 9, 10],
]
STEPS = 12


def _sample(
    model: Any,
    prompts: Sequence[Sequence[int]] = PROMPTS,
    *,
    seed: int = 0,
    steps: int = STEPS,
    **changes: Any,
) -> list[Completion]:
    return sample_completions(
        model,
        prompts,
        sampling=SamplingConfig(max_completion_tokens=steps, **changes),
        eos_token_id=EOS,
        generator=torch.Generator().manual_seed(seed),
    )


def _naive(model: Any, prompt: Sequence[int], luck: list[float], temperature: float) -> list[int]:
    """Run the whole row through the model for every token and walk along the probabilities."""
    ids: list[int] = []
    for uniform in luck:
        row = torch.tensor([[*prompt, *ids]])
        logits = model(input_ids=row, use_cache=False).logits[0, -1].double()
        token, passed = -1, 0.0
        for probability in (logits / temperature).softmax(-1).tolist():
            token, passed = token + 1, passed + probability
            if uniform < passed:
                break
        ids.append(token)
        if token == EOS:
            break
    return ids


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_ready_weights_change_no_token(
    make_network: Callable[..., Any], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = make_network(family), PROMPTS * 3
    fast = _sample(model, asked)
    assert all("forward" not in vars(module) for module in model.modules())
    monkeypatch.setattr(decoding, "MOST_READY_BYTES", 0)
    plain = _sample(model, asked)
    assert [one.token_ids for one in fast] == [one.token_ids for one in plain]
    for one, other in zip(fast, plain, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=2e-5)


def test_ready_weights_are_used_and_put_away(make_network: Callable[..., Any]) -> None:
    model = make_network("llama")
    layer = next(one for one in model.modules() if type(one) is torch.nn.Linear)
    rows = torch.randn(3, 1, layer.in_features)
    with torch.no_grad():
        wanted = layer(rows)
        with decoding.ready_weights(model):
            assert "forward" in vars(layer)
            assert torch.allclose(layer(rows), wanted, atol=1e-5)
        assert torch.equal(layer(rows), wanted)
        with decoding.ready_weights(model.bfloat16()):
            assert "forward" not in vars(layer), "the processor may lack bfloat16"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@torch.no_grad()
def test_sampling_equals_a_naive_loop_whatever_the_batch(
    make_network: Callable[..., Any], family: str, temperature: float
) -> None:
    model = make_network(family)
    generator = torch.Generator().manual_seed(4)
    luck = torch.rand(len(PROMPTS), STEPS, generator=generator, dtype=torch.float64).tolist()
    wanted = [
        _naive(model, prompt, uniforms, temperature)
        for prompt, uniforms in zip(PROMPTS, luck, strict=True)
    ]
    ended = [ids[-1] == EOS for ids in wanted]
    assert any(ended)
    assert not all(ended)  # both ways to end are seen
    for batch_size in (1, 3, 100):
        sampled = _sample(model, seed=4, temperature=temperature, batch_size=batch_size)
        assert [completion.token_ids for completion in sampled] == wanted
        assert [completion.finished for completion in sampled] == ended


def test_completion_ends_at_its_first_eos(make_network: Callable[..., Any]) -> None:
    sampled = _sample(make_network("llama"), PROMPTS * 8)
    assert {completion.finished for completion in sampled} == {True, False}
    for completion in sampled:
        *before, last = completion.token_ids
        assert EOS not in before
        assert completion.finished == (last == EOS)
        assert completion.finished or len(completion.token_ids) == STEPS


def test_finished_rows_leave_the_batch(make_network: Callable[..., Any]) -> None:
    model = make_network("llama")
    shapes: list[tuple[int, ...]] = []
    hook = model.base_model.register_forward_pre_hook(
        lambda _, __, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    sampled = _sample(model, PROMPTS * 3)
    hook.remove()
    lengths = [len(completion.token_ids) for completion in sampled]
    # The prompts once, packed: 3 times 34 tokens; then one column for every row still going on.
    wanted = [(1, 102), *((sum(n > step for n in lengths), 1) for step in range(1, max(lengths)))]
    assert shapes == wanted
    assert shapes[-1][0] < 24


WAITS = {
    *("item", "tolist", "__bool__", "__int__", "__float__", "cpu", "numpy"),
    *("nonzero", "masked_select", "unique", "repeat_interleave"),
}
"""What has to wait for a GPU before Python can go on; so has an index of booleans."""


class Waits(TorchFunctionMode):
    """Counts them, by whoever calls them, transformers included."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        index = args[1] if name in ("__getitem__", "__setitem__") else None
        parts = index if isinstance(index, tuple) else (index,)
        chosen = any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in parts)
        self.seen[name] += name in WAITS or chosen
        return func(*args, **(kwargs or {}))


def test_on_a_gpu_no_token_and_no_layer_waits_for_it(
    make_network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And rows that have ended, which it does not know, change no completion."""
    wanted = _sample(make_network("llama"), PROMPTS * 3)
    monkeypatch.setattr(generation, "steps_between_looks", lambda _: 8)

    def waits(steps: int, layers: int) -> int:
        model = make_network("llama", layers=layers)
        with Waits() as found:
            _sample(model, PROMPTS, steps=steps, min_completion_tokens=steps)
        return found.seen.total()

    few = waits(16, 2)
    assert few > 0
    assert waits(16, 4) == few
    assert waits(32, 2) == few + 2  # looks that find every row going on
    found = _sample(make_network("llama"), PROMPTS * 3)
    assert [one.token_ids for one in found] == [one.token_ids for one in wanted]


def test_sampled_frequencies_follow_the_softmax(make_network: Callable[..., Any]) -> None:
    model, rows = make_network("gpt2", vocab=6, spread=0.1), 8000
    sampled = _sample(model, [[2, 3]] * rows, steps=2, temperature=0.7, batch_size=rows)
    counts = Counter(tuple(completion.token_ids) for completion in sampled)

    def chi_square(temperature: float) -> float:
        def after(*ids: int) -> list[float]:
            with torch.no_grad():
                logits = model(torch.tensor([[2, 3, *ids]])).logits[0, -1].double()
            return (logits / temperature).softmax(-1).tolist()

        first = after()
        cells = {(EOS,): first[EOS]}
        for token in (0, 2, 3, 4, 5):
            second = after(token)
            cells |= {(token, then): first[token] * second[then] for then in range(6)}
        assert set(counts) <= set(cells)
        assert rows * min(cells.values()) > 5  # below that the statistic is no chi-square
        return sum((counts[cell] - rows * p) ** 2 / (rows * p) for cell, p in cells.items())

    # 1 + 5 * 6 = 31 cells, 30 degrees of freedom: above 59.7 once in a thousand seeds.
    assert chi_square(0.7) < 59.7
    assert chi_square(1.0) > 200  # the test would notice another temperature


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("changes", [{}, {"temperature": 0.6}, {"min_completion_tokens": 4}])
@torch.no_grad()
def test_stored_logprobs_are_those_of_a_full_forward(
    make_network: Callable[..., Any], family: str, changes: dict[str, float]
) -> None:
    """Cached decoding, with rows leaving the batch, against one packed pass in double precision."""
    model = make_network(family)
    sampled = _sample(model, PROMPTS * 3, **changes)
    rows = Sequences.from_lists(PROMPTS * 3, [completion.token_ids for completion in sampled])
    distribution = TokenDistribution.of(SamplingConfig(**changes), EOS)
    whole = token_logprobs(model, rows, distribution=distribution).logprobs
    exact = token_logprobs(deepcopy(model).double(), rows, distribution=distribution).logprobs
    # float32, logits of size 10 and more: what a pass over whole rows is off by depends on the
    # processor, and decoding may be off by twice as much.
    off = max(2e-5, 2 * float((whole - exact).abs().max()))
    assert off < 1e-4, "no rounding is that coarse"
    for completion, row in zip(sampled, exact.tolist(), strict=True):
        assert completion.logprobs == pytest.approx(row[: len(completion.logprobs)], abs=off)


def test_completions_are_never_shorter_than_asked(make_network: Callable[..., Any]) -> None:
    model = make_network("llama")
    free, held = _sample(model, PROMPTS * 8), _sample(model, PROMPTS * 8, min_completion_tokens=5)
    assert min(len(completion.token_ids) for completion in free) < 5
    assert min(len(completion.token_ids) for completion in held) == 5
    for completion in held:
        assert EOS not in completion.token_ids[:-1]


def test_luck_belongs_to_the_row_not_to_the_model(make_network: Callable[..., Any]) -> None:
    """The generator moves by prompts x longest completion, however soon completions end."""
    generator, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    sample_completions(
        make_network("llama"),
        PROMPTS,
        sampling=SamplingConfig(max_completion_tokens=STEPS),
        eos_token_id=EOS,
        generator=generator,
    )
    torch.rand(len(PROMPTS), STEPS, generator=other, dtype=torch.float64)
    assert torch.equal(generator.get_state(), other.get_state())


def test_equal_prompts_are_sampled_apart_and_seeds_differ(
    make_network: Callable[..., Any],
) -> None:
    model = make_network("llama")
    many = _sample(model, [[5, 6]] * 20)
    assert len({tuple(completion.token_ids) for completion in many}) > 10
    assert many != _sample(model, [[5, 6]] * 20, seed=1)


def test_sampling_turns_dropout_off_and_the_training_mode_on_again(
    make_network: Callable[..., Any],
) -> None:
    calm, model = make_network("gpt2"), make_network("gpt2", dropout=0.5).train()
    assert _sample(model) == _sample(calm)
    assert model.training
    assert not calm.training


def test_sampling_no_prompts_gives_no_completions(make_network: Callable[..., Any]) -> None:
    assert _sample(make_network("llama"), []) == []


def test_sampling_refuses_an_empty_prompt(make_network: Callable[..., Any]) -> None:
    with pytest.raises(ParameterError, match="a prompt has no tokens"):
        _sample(make_network("llama"), [[5], []])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_sampling_refuses_a_prompt_that_leaves_no_room(
    make_network: Callable[..., Any], family: str
) -> None:
    model = make_network(family, context=16)
    assert len(_sample(model, [[5] * 4])) == 1  # 4 + 12 fill the context of 16
    with pytest.raises(ParameterError, match=r"prompt of 5 tokens .* 12 exceed .* context of 16"):
        _sample(model, [[2], [5] * 5])
