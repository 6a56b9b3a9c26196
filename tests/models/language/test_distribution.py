"""The distribution: temperature, EOS held back, and gradients that stay finite under it."""

import torch

from models.language.sequences import TokenDistribution

LOGITS = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
STEPS = torch.tensor([0, 1])


def test_plain_distribution_is_the_softmax_in_float32() -> None:
    found = TokenDistribution().log_softmax(LOGITS.to(torch.bfloat16), STEPS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, LOGITS.log_softmax(-1))


def test_temperature_divides_the_logits() -> None:
    # exp(2), exp(4), exp(6) over their sum: 0.0159, 0.1173, 0.8668.
    found = TokenDistribution(temperature=0.5).log_softmax(LOGITS, STEPS).exp()
    torch.testing.assert_close(found[0], torch.tensor([0.0159, 0.1173, 0.8668]), atol=1e-4, rtol=0)


def test_eos_is_held_back_until_the_shortest_completion_is_reached() -> None:
    held = TokenDistribution(min_completion_tokens=2, eos_token_id=2)
    found = held.log_softmax(LOGITS, STEPS).exp()
    # Token 0 must not be EOS: e / (e + e^2) and e^2 / (e + e^2); token 1 may be.
    torch.testing.assert_close(found[0], torch.tensor([0.2689, 0.7311, 0.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1], LOGITS[1].softmax(-1))


def test_entropy_under_a_held_token_has_a_finite_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    held = TokenDistribution(min_completion_tokens=2, eos_token_id=2)
    log = held.log_softmax(logits, STEPS)
    entropy = -(log.exp() * log).sum(-1)
    entropy.sum().backward()  # type: ignore[no-untyped-call]
    # Two tokens are left at first: -0.2689 ln 0.2689 - 0.7311 ln 0.7311 = 0.5822.
    assert abs(entropy[0].item() - 0.5822) < 1e-4
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 2] == 0
