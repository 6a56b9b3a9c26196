"""Heads on trunks: whose weights they share, and that transformers reads what is published."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from models.distributed.team import Team
from models.errors import ModelError, ParameterError
from models.heads import networks
from models.heads.config import HeadConfig
from models.heads.networks import HeadNetwork, new_network
from tests.models.heads.conftest import CAT, CLS, DOG, ENTAILMENT, EOS, PAD, SEP, SIMILARITY, A

FAMILIES = ("llama", "gpt2", "bert", "bart")


def network(base: Path, *, seed: int = 1, task: Any = ENTAILMENT, **fields: Any) -> HeadNetwork:
    return new_network(base, task, HeadConfig(**fields), pad=PAD, seed=seed, device="cpu")


def state(network: HeadNetwork) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in network.model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_network_has_the_pretrained_trunk_and_a_fresh_head(
    trunk: Callable[[str], Path], family: str
) -> None:
    found = state(network(trunk(family)))
    # transformers itself puts a head on the folder's trunk; only that head differs.
    expected = AutoModelForSequenceClassification.from_pretrained(
        trunk(family), num_labels=3, trust_remote_code=False
    ).state_dict()
    assert set(found) == set(expected)
    unlike = {name for name in found if not torch.equal(found[name], expected[name])}
    assert unlike
    assert all(name.startswith(("score", "classif")) for name in unlike)
    assert all("bias" not in name for name in unlike)  # which begin at zero there as well
    assert all(torch.equal(one, state(network(trunk(family)))[name]) for name, one in found.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_random_network_is_the_same_network_with_other_weights(
    trunk: Callable[[str], Path], family: str
) -> None:
    pretrained, fresh = state(network(trunk(family))), network(trunk(family), initial="random")
    matrices = {name for name, one in pretrained.items() if one.dim() == 2}
    same = {name for name in matrices if torch.equal(pretrained[name], state(fresh)[name])}
    assert all(name.startswith(("score", "classif")) for name in same)  # the same head
    again = state(network(trunk(family), initial="random"))
    assert all(torch.equal(one, again[name]) for name, one in state(fresh).items())
    other = state(network(trunk(family), initial="random", seed=2))
    assert not any(torch.equal(other[name], state(fresh)[name]) for name in matrices)


@pytest.mark.parametrize(
    ("family", "row"),
    [
        ("llama", [EOS, A, CAT, EOS, DOG, EOS]),
        ("gpt2", [EOS, A, CAT, EOS, DOG, EOS]),
        ("bert", [CLS, A, CAT, SEP, DOG, SEP]),
        ("bart", [A, CAT, EOS, DOG, EOS]),
    ],
)
def test_head_reads_the_state_that_its_family_wants(
    trunk: Callable[[str], Path], family: str, row: list[int]
) -> None:
    model = network(trunk(family)).model
    ids = torch.tensor([row])
    logits = model(input_ids=ids).logits[0]
    if family == "bert":
        pooled = torch.tanh(model.bert.pooler.dense(model.bert(ids).last_hidden_state[:, 0]))
        expected = model.classifier(pooled)
    elif family == "bart":
        shifted = torch.tensor([[EOS, *row[:-1]]])  # the decoder begins with EOS
        last = model.model(input_ids=ids, decoder_input_ids=shifted).last_hidden_state[:, -1]
        expected = model.classification_head(last)
    else:
        expected = model.score(model.base_model(ids).last_hidden_state[:, -1])
    torch.testing.assert_close(logits, expected[0], rtol=0, atol=1e-6)


def test_frozen_trunk_leaves_the_head_to_learn(trunk: Callable[[str], Path]) -> None:
    model = network(trunk("bert"), trunk="frozen").model
    learning = {name for name, one in model.named_parameters() if one.requires_grad}
    assert learning == {"classifier.weight", "classifier.bias"}


def test_language_head_shares_the_embeddings_of_a_tied_model(trunk: Callable[[str], Path]) -> None:
    found = network(trunk("gpt2"), auxiliary_weight=0.5)
    assert found.language_head.weight is found.model.get_input_embeddings().weight
    assert network(trunk("bart"), task=SIMILARITY).language_head is None


@pytest.mark.parametrize(
    ("family", "reason"), [("bert", "needs masked texts"), ("bart", "would learn to copy")]
)
def test_auxiliary_loss_is_refused_where_it_has_no_sense(
    trunk: Callable[[str], Path], family: str, reason: str
) -> None:
    with pytest.raises(ParameterError, match=reason):
        network(trunk(family), auxiliary_weight=0.5)
    with pytest.raises(ValueError, match="nothing to teach a frozen trunk"):
        HeadConfig(auxiliary_weight=0.5, trunk="frozen")


@pytest.mark.parametrize(
    ("family", "what"), [("transformer", "is a marian, which"), ("lstm", "is a yardstick")]
)
def test_a_family_without_a_classifier_is_refused(
    trunk: Callable[[str], Path], family: str, what: str
) -> None:
    with pytest.raises(ModelError, match=what):
        network(trunk(family))


def test_heads_are_not_spread_over_processes(
    trunk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team(size=2, sharding="full")  # its group is never asked
    monkeypatch.setattr(networks, "current_team", lambda: team)
    with pytest.raises(ParameterError, match="heads are not spread over processes"):
        network(trunk("gpt2"))
