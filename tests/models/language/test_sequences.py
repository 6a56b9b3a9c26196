"""Ragged rows: every number equals the unpadded row's own, and neighbours do not exist."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.language import sequences as sequences_module
from models.language.sequences import (
    Sequences,
    TokenDistribution,
    in_chunks,
    map_chunks,
    sequence_scores,
    token_logprobs,
    token_values,
)

TEMPERATURE = 0.7
DISTRIBUTION = TokenDistribution(temperature=TEMPERATURE)
# Prompts of 3, 1, 6, 2 tokens, completions of 2, 5, 1, 9; neither order is the other's.
PROMPTS = [[5, 6, 7], [2], [3, 9, 4, 4, 8, 2], [12, 13]]
COMPLETIONS = [[9, 1], [4, 4, 10, 3, 1], [7], [2, 3, 4, 5, 6, 7, 8, 9, 10]]
FAMILIES = ["llama", "gpt2"]
# float32 forwards of other shapes differ by rounding: logits of size 10 carry about 1e-6 each.
TOLERANCE = 2e-5


def _rows(pad: int = 0) -> Sequences:
    """The rows; `pad` stands behind them."""
    rows = Sequences.from_lists(PROMPTS, COMPLETIONS)
    behind = torch.arange(rows.input_ids.shape[1]) >= rows.lengths[:, None]
    return dataclasses.replace(rows, input_ids=rows.input_ids.masked_fill(behind, pad))


def _laid_out(rows: list[torch.Tensor]) -> torch.Tensor:
    """Rows of numbers as (batch, completion) with zeros behind."""
    width = max(len(row) for row in rows)
    return torch.stack([torch.cat([row, row.new_zeros(width - len(row))]) for row in rows])


def test_sequences_join_prompt_and_completion_and_count_by_length() -> None:
    rows = Sequences.from_lists([[5, 6], [7]], [[0], [8, 0, 9]])
    assert len(rows) == 2
    assert rows.input_ids.tolist() == [[5, 6, 0, 0], [7, 8, 0, 9]]
    assert rows.lengths.tolist() == [3, 4]
    # Pad ids inside a completion count: the mask comes from lengths.
    assert rows.completion_mask.tolist() == [[True, False, False], [True, True, True]]
    assert rows.packed_ids.tolist() == [5, 6, 0, 7, 8, 0, 9]
    # Completion tokens stand at 2 in the packed row, and at 4, 5, 6.
    places, steps = rows.completion_index()
    assert places.tolist() == [2, 4, 5, 6]
    assert steps.tolist() == [0, 0, 1, 2]


def test_select_keeps_the_order_asked_for_and_trims() -> None:
    picked = _rows().select(torch.tensor([2, 0]))
    assert picked.input_ids.tolist() == [[3, 9, 4, 4, 8, 2, 7], [5, 6, 7, 9, 1, 0, 0]]
    assert picked.prompt_lengths.tolist() == [6, 3]
    assert picked.completion_lengths.tolist() == [1, 2]


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logprobs_and_entropy_equal_those_of_rows_alone(
    make_network: Callable[..., Any], unpadded: Any, family: str
) -> None:
    model = make_network(family)
    said = token_logprobs(model, _rows(), distribution=DISTRIBUTION, entropy="watched")
    logprobs, entropy = [], []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        logprobs.append(unpadded.logprobs(model, prompt, completion, TEMPERATURE))
        rows = unpadded.distributions(model, prompt, completion, TEMPERATURE)
        entropy.append(torch.stack([-sum(p.exp() * p for p in row) for row in rows]))
    for got, wanted in ((said.logprobs, logprobs), (said.entropy, entropy)):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), _laid_out(wanted), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_values_and_scores_equal_those_of_rows_alone(
    make_network: Callable[..., Any], unpadded: Any, family: str
) -> None:
    model = make_network(family, score_head=True)
    pairs = list(zip(PROMPTS, COMPLETIONS, strict=True))
    values = _laid_out([unpadded.values(model, prompt, ids) for prompt, ids in pairs])
    scores = torch.stack([unpadded.score(model, prompt + ids) for prompt, ids in pairs])
    assert values.std() > 0.1  # large enough for the tolerance to mean something
    got = token_values(model, _rows())
    torch.testing.assert_close(got.double(), values, atol=TOLERANCE, rtol=0)
    got = sequence_scores(model, _rows())
    torch.testing.assert_close(got.double(), scores, atol=TOLERANCE, rtol=0)


def _loss_of_row(model: Any, rows: Sequences, row: int, kind: str) -> torch.Tensor:
    """A loss in which every token of one row weighs differently."""
    if kind == "scores":
        return sequence_scores(model, rows)[row]
    if kind == "values":
        numbers = token_values(model, rows)[row]
    else:
        said = token_logprobs(model, rows, distribution=DISTRIBUTION, entropy="learned")
        numbers = said.logprobs[row] + 0.5 * said.entropy[row]
    weights: torch.Tensor = torch.arange(1.0, len(numbers) + 1)
    return (weights * numbers).sum()


def _gradients(model: Any, rows: Sequences, row: int, kind: str) -> list[torch.Tensor]:
    model.zero_grad()
    _loss_of_row(model, rows, row, kind).backward()  # type: ignore[no-untyped-call]
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["logprobs", "values", "scores"])
def test_gradients_of_a_row_do_not_depend_on_its_neighbours(
    make_network: Callable[..., Any], family: str, kind: str
) -> None:
    model = make_network(family, score_head=kind != "logprobs")
    for row in range(len(PROMPTS)):
        alone = Sequences.from_lists([PROMPTS[row]], [COMPLETIONS[row]])
        wanted = _gradients(model, alone, 0, kind)
        scale = max(float(gradient.abs().max()) for gradient in wanted)
        assert scale > 0.01
        for got, want in zip(_gradients(model, _rows(), row, kind), wanted, strict=True):
            torch.testing.assert_close(got, want, atol=TOLERANCE * scale, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["logprobs", "values", "scores"])
def test_what_stands_behind_a_row_changes_nothing(
    make_network: Callable[..., Any], family: str, kind: str
) -> None:
    model = make_network(family, score_head=kind != "logprobs")
    clean, dirty = _rows(pad=0), _rows(pad=11)
    assert not torch.equal(clean.input_ids, dirty.input_ids)
    for row in range(len(PROMPTS)):
        losses = [_loss_of_row(model, rows, row, kind) for rows in (clean, dirty)]
        assert torch.equal(*losses)  # to the bit: attention gives it a weight of exactly 0
        pairs = zip(
            _gradients(model, clean, row, kind), _gradients(model, dirty, row, kind), strict=True
        )
        # Exact zeros added in another place of an embedding: rounding may not differ either.
        assert all(torch.equal(*pair) for pair in pairs)


def test_entropy_has_a_gradient_only_where_asked(make_network: Callable[..., Any]) -> None:
    model = make_network("llama")
    said = token_logprobs(model, _rows(), entropy="watched")
    assert said.logprobs.requires_grad
    assert not said.entropy.requires_grad
    asked = token_logprobs(model, _rows(), entropy="learned")
    assert asked.entropy.requires_grad
    assert torch.equal(said.entropy, asked.entropy)


LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(
    lengths=LENGTHS, max_tokens=st.integers(1, 60), group=st.one_of(st.none(), st.integers(1, 5))
)
def test_chunks_cover_every_row_once_and_stay_within_bounds(
    lengths: list[tuple[int, int]], max_tokens: int, group: int | None
) -> None:
    rows = Sequences.from_lists(
        [[1 + index] * prompt for index, (prompt, _) in enumerate(lengths)],
        [[100 + index] * completion for index, (_, completion) in enumerate(lengths)],
    )
    chunks = list(in_chunks(rows, max_tokens, group=group))
    seen = []
    for part, chunk in chunks:
        assert int(chunk.lengths.sum()) <= max_tokens or len(chunk) == 1
        for index, ids in zip(range(part.start, part.stop), chunk.input_ids.tolist(), strict=True):
            prompt, completion = lengths[index]
            wanted = [1 + index] * prompt + [100 + index] * completion
            assert ids == wanted + [0] * (len(ids) - len(wanted))
            seen.append(index)
    assert seen == list(range(len(lengths)))
    totals = [sum(pair) for pair in lengths]
    for part, _ in chunks:
        assert group is None or part.start // group == (part.stop - 1) // group
        # No chunk could have taken the next row too, unless that is of another group.
        if part.stop < len(totals) and (group is None or part.stop % group):
            assert sum(totals[part.start : part.stop + 1]) > max_tokens


@pytest.mark.parametrize("max_tokens", [1, 12, 22, 1000])
def test_chunking_does_not_change_what_networks_say(
    make_network: Callable[..., Any], max_tokens: int
) -> None:
    model, judge = make_network("llama"), make_network("llama", score_head=True)

    def both(rows: Sequences) -> torch.Tensor:
        said = token_logprobs(model, rows, entropy="watched")
        return torch.stack([said.logprobs, said.entropy], dim=-1)

    for function in (
        both,  # (batch, completion, 2)
        lambda rows: token_values(judge, rows),  # (batch, completion)
        lambda rows: sequence_scores(judge, rows),  # (batch,)
    ):
        for group in (None, 3):
            joined = map_chunks(function, _rows(), max_tokens, group=group)
            assert not joined.requires_grad
            torch.testing.assert_close(joined, function(_rows()), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("entropy", ["none", "watched", "learned"])
def test_many_logits_are_computed_again_instead_of_kept(
    make_network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, entropy: Any
) -> None:
    """With the same loss and gradient, bit for bit, and a piece at a time."""
    found = []
    monkeypatch.setattr(sequences_module, "HEAD_TOKENS", 6)
    for most in (sequences_module.MOST_LOGITS, 0):
        monkeypatch.setattr(sequences_module, "MOST_LOGITS", most)
        model, kept = make_network("llama"), []

        def keep(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.numel() if tensor.shape[-1:] == (16,) else 0)  # of the vocabulary
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            said = token_logprobs(model, _rows(), distribution=DISTRIBUTION, entropy=entropy)
            loss = said.logprobs.sum()
            if entropy == "learned":
                loss = loss + said.entropy.sum()
        held = sum(kept)
        loss.backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        found.append((held, [loss, said.logprobs, *gradients], said.entropy))
    (whole, first, said), (pieces, second, again) = found
    assert all(map(torch.equal, first, second))
    assert (said is None) == (again is None) == (entropy == "none")
    assert said is None or torch.equal(said, again)
    assert pieces < whole
