"""The clipped losses by hand: every side of the clip, its gradient, masks, and sums not means."""

import math

import pytest
import torch

from models.ppo.losses import policy_loss, value_loss

NAN = float("nan")
ALL = torch.ones(1, 1, dtype=torch.bool)


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "slope", "clipped"),
    [
        # Clip 0.2. The slope is d loss / d logprob = -A * ratio where nothing is held, else 0.
        (2.0, 1.1, -2.2, -2.2, 0),  # good and inside: -2 * 1.1
        (2.0, 0.5, -1.0, -1.0, 0),  # good and too rare already: pull it back up, -2 * 0.5
        (2.0, 1.5, -2.4, 0.0, 1),  # good and far enough: max(-3.0, -2 * 1.2), held
        (-2.0, 0.9, 1.8, 1.8, 0),  # bad and inside: 2 * 0.9
        (-2.0, 1.5, 3.0, 3.0, 0),  # bad and too frequent: push it down, 2 * 1.5
        (-2.0, 0.5, 1.6, 0.0, 1),  # bad and rare enough: max(1.0, 2 * 0.8), held
        (0.0, 1.5, 0.0, 0.0, 0),  # worth nothing: nothing moves
    ],
)
def test_policy_loss_on_every_side_of_the_clip(
    advantage: float, ratio: float, loss: float, slope: float, clipped: int
) -> None:
    old = torch.tensor([[-1.3]], dtype=torch.float64)
    logprobs = (old + math.log(ratio)).requires_grad_()
    got = policy_loss(logprobs, old, torch.tensor([[advantage]]), ALL, clip_range=0.2)
    got.loss.backward()  # type: ignore[no-untyped-call]
    assert got.loss.item() == pytest.approx(loss, abs=1e-7)
    assert logprobs.grad is not None
    assert logprobs.grad.item() == pytest.approx(slope, abs=1e-7)
    if slope == 0.0:
        assert logprobs.grad.item() == 0.0  # exactly
    assert got.clipped.item() == clipped


def test_policy_loss_sums_over_counted_tokens_and_reports_their_ratios() -> None:
    # Ratios 1.5, 0.5, 1 and 2 garbage tokens.
    mask = torch.tensor([[True, True, True, False, False]])
    old = torch.tensor([[-1.0, -2.0, -3.0, NAN, 0.0]])
    moved = torch.tensor([[math.log(1.5), math.log(0.5), 0.0, 0.0, 1e30]])
    logprobs = (old + moved).requires_grad_()
    advantages = torch.tensor([[1.0, 1.0, -4.0, NAN, float("inf")]])
    got = policy_loss(logprobs, old, advantages, mask, clip_range=0.2)
    assert got.loss.item() == pytest.approx(-1.2 - 0.5 + 4.0)
    assert got.clipped.item() == 1
    assert got.ratio.item() == pytest.approx(3.0)  # 1.5 + 0.5 + 1
    assert got.ratio_max.item() == pytest.approx(1.5)
    assert got.ratio_error.item() == pytest.approx(0.5)
    # k3: (1.5 - 1 - ln 1.5) + (0.5 - 1 - ln 0.5) + 0 = 0.094535 + 0.193147
    assert got.approx_kl.item() == pytest.approx(0.287682, abs=1e-6)
    got.loss.backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    # Held: 0; -1 * 0.5; 4 * 1; masked: exactly 0, and never NaN.
    assert logprobs.grad.tolist() == [[0.0, pytest.approx(-0.5), pytest.approx(4.0), 0.0, 0.0]]
    assert not any(
        number.requires_grad
        for number in (got.approx_kl, got.clipped, got.ratio_max, got.ratio_error)
    )


def test_policy_loss_of_two_halves_adds_up_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs, old, advantages = torch.randn(3, 4, 5, generator=generator).double()
    mask = torch.arange(5) < torch.tensor([5, 1, 3, 2])[:, None]

    def loss(rows: slice) -> float:
        parts = (tensor[rows] for tensor in (logprobs, old, advantages, mask))
        return policy_loss(*parts, clip_range=0.2).loss.item()

    assert loss(slice(0, 1)) + loss(slice(1, 4)) == pytest.approx(loss(slice(0, 4)), abs=1e-12)


def test_policy_loss_stays_finite_when_the_ratio_explodes() -> None:
    logprobs = torch.tensor([[0.0]]).requires_grad_()
    got = policy_loss(logprobs, torch.tensor([[-500.0]]), torch.tensor([[-1.0]]), ALL, clip_range=1)
    assert got.loss.item() == pytest.approx(math.exp(20.0))  # the log-ratio is held at 20
    assert math.isfinite(got.approx_kl.item())


def test_policy_loss_measures_a_tiny_divergence() -> None:
    # ln r = 1e-4: r - 1 - ln r = 5e-9, which 1.0001 - 1 - 0.0001 in float32 cannot show.
    got = policy_loss(
        torch.tensor([[1e-4]]), torch.zeros(1, 1), torch.ones(1, 1), ALL, clip_range=1
    )
    assert got.approx_kl.item() == pytest.approx(5e-9, rel=1e-3)


@pytest.mark.parametrize(
    ("value", "returned", "loss", "slope", "clipped"),
    [
        # Old value 1, range 0.5: the value is held within 0.5 and 1.5.
        (1.2, 3.0, 1.62, -1.8, 0),  # inside: (1.2 - 3)^2 / 2
        (2.0, 3.0, 1.125, 0.0, 1),  # moved far towards the return: held at 1.5, (1.5 - 3)^2 / 2
        (0.0, -3.0, 6.125, 0.0, 1),  # the same downwards: held at 0.5, (0.5 + 3)^2 / 2
        (2.0, -1.0, 4.5, 3.0, 0),  # moved far and wrong: (2 + 1)^2 / 2 is the larger
        (0.0, 3.0, 4.5, -3.0, 0),  # the same downwards
    ],
)
def test_value_loss_takes_the_larger_of_two_errors(
    value: float, returned: float, loss: float, slope: float, clipped: int
) -> None:
    values = torch.tensor([[value]]).requires_grad_()
    got = value_loss(
        values, torch.ones(1, 1), torch.tensor([[returned]]), ALL, value_clip_range=0.5
    )
    got.loss.backward()  # type: ignore[no-untyped-call]
    assert got.loss.item() == pytest.approx(loss)
    assert values.grad is not None
    assert values.grad.item() == pytest.approx(slope)
    if slope == 0.0:
        assert values.grad.item() == 0.0  # exactly
    assert got.clipped.item() == clipped


def test_value_loss_sums_over_counted_tokens_whatever_the_mask_hides() -> None:
    values = torch.tensor([[1.2, 2.0, NAN], [0.0, 1e30, 5.0]]).requires_grad_()
    old = torch.tensor([[1.0, 1.0, NAN], [1.0, NAN, 0.0]])
    returns = torch.tensor([[3.0, 3.0, 1.0], [3.0, float("inf"), 0.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    got = value_loss(values, old, returns, mask, value_clip_range=0.5)
    got.loss.backward()  # type: ignore[no-untyped-call]
    assert got.loss.item() == pytest.approx(1.62 + 1.125 + 4.5)  # the cases above
    assert got.clipped.item() == 1
    assert values.grad is not None
    assert values.grad.tolist() == [[pytest.approx(-1.8), 0.0, 0.0], [-3.0, 0.0, 0.0]]


def test_value_loss_counts_no_value_as_clipped_that_is_within_the_range() -> None:
    """old + (value - old) need not be the value in float32; the count must not see that."""
    old, values, returns = torch.randn(3, 1, 20000, generator=torch.Generator().manual_seed(0))
    mask = (values - old).abs() < 0.19
    assert int(mask.sum()) > 1000
    got = value_loss(values, old, returns, mask, value_clip_range=0.2)
    assert got.clipped.item() == 0
