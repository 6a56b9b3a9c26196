"""Trainers on packed rows: losses, gradients and logs of the padded batch; no row sees another.

The oracle is the network's own forward on right-padded rows with an attention mask, through
transformers' SDPA, and a loss written out by hand.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM

from models.language.encoded_rows import EncodedRows
from models.language.examples import Demonstrations, Pairs
from models.reward.config import RewardStageConfig
from models.reward.encoding import as_columns
from models.reward.training import _build_trainer as reward_trainer
from models.training import packed_trainers, sft
from models.training.config import SFTStageConfig
from models.training.packed_trainers import batch_elements

FAMILIES = pytest.mark.parametrize("family", ["llama", "gpt2"])
VOCAB = 320  # the tokenizer's
TOLERANCE = 1e-5  # float32 sums over some 50 tokens in another order
MARGINS = [0.0, 0.5, 0.25, 1.0]


def _tokens(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(5, VOCAB, (n,), generator=generator).tolist() for n in lengths]


def _demonstrations(prompts: list[list[int]], completions: list[list[int]]) -> Demonstrations:
    none: list[list[tuple[int, int]]] = [[] for _ in prompts]
    return Demonstrations(prompts=prompts, completions=completions, turns=none, dropped=0)


ROWS = _demonstrations(_tokens(3, 1, 7, 3), _tokens(4, 9, 2, 4))


def _pairs(
    prompts: list[list[int]],
    chosen: list[list[int]],
    rejected: list[list[int]],
    margins: list[float],
    **changes: Any,
) -> Pairs:
    count = len(prompts)
    fields: dict[str, Any] = {
        "prompts": prompts,
        "chosen": chosen,
        "rejected": rejected,
        "margins": margins,
        "ties": [False] * count,
        "prompt_numbers": list(range(count)),
        "rows": list(range(count)),
        "equal": 0,
        "too_long": 0,
    }
    return Pairs(**fields | changes)


PAIRS = _pairs(_tokens(3, 1, 7, 2), _tokens(4, 2, 8, 5), _tokens(1, 9, 3, 5), MARGINS)

A, B, C, D, E = _tokens(4, 2, 8, 5, 3)
ASKED, ASKED_ALSO = _tokens(3, 6)
# Of one prompt the ranking A > B > C, its last pair a tie; of another one pair. Not adjacent.
RANKED = _pairs(
    [ASKED, ASKED, ASKED_ALSO, ASKED],
    [A, A, D, B],
    [B, C, E, C],
    [0.5, 1.0, 0.25, 0.0],
    ties=[False, False, False, True],
    prompt_numbers=[0, 0, 1, 0],
)


def _encoded(columns: dict[str, list[Any]]) -> EncodedRows:
    return EncodedRows(rows=Dataset.from_dict(columns), counts={})


@pytest.fixture
def make_sft(make_network: Any, tokenizer: Any, make_run: Any, tmp_path: Path) -> Any:
    def make(family: str, rows: Demonstrations = ROWS, **changes: Any) -> Any:
        config = SFTStageConfig(batch_size=len(rows.prompts), **changes)
        network = make_network(family, vocab=VOCAB)
        learned = _encoded(sft.as_columns(rows))
        return sft._build_trainer(network, tokenizer, learned, config, make_run(tmp_path))

    return make


@pytest.fixture
def make_reward(make_network: Any, tokenizer: Any, make_run: Any, tmp_path: Path) -> Any:
    def make(family: str, pairs: Pairs = PAIRS, **changes: Any) -> Any:
        config = RewardStageConfig(batch_size=len(pairs), **changes)
        network = make_network(family, vocab=VOCAB, score_head=True)
        by_prompt = config.batch_element == "prompt"
        learned = _encoded(as_columns(batch_elements(pairs, by_prompt=by_prompt)))
        return reward_trainer(network, tokenizer, learned, config, make_run(tmp_path))

    return make


def _loss(trainer: Any) -> torch.Tensor:
    """The loss of the first batch, as `training_step` asks for it."""
    trainer.model.train()
    (batch,) = trainer.get_train_dataloader()
    items = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    loss: torch.Tensor = trainer.compute_loss(trainer.model, batch, num_items_in_batch=items)
    return loss


def _gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Those of the last micro-batch and of the ones before."""
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows]),
    }


def _padded_sft_loss(model: Any) -> torch.Tensor:
    """Mean of -log p over the completion tokens of all rows."""
    rows = [p + c for p, c in zip(ROWS.prompts, ROWS.completions, strict=True)]
    logprobs = model(**_padded(rows)).logits.log_softmax(-1)
    picked = [
        logprobs[at, place - 1, row[place]]
        for at, row in enumerate(rows)
        for place in range(len(ROWS.prompts[at]), len(row))
    ]
    return -torch.stack(picked).mean()


def _padded_scores(model: Any, rows: list[list[int]]) -> torch.Tensor:
    hidden = model.base_model(**_padded(rows)).last_hidden_state
    last = torch.stack([hidden[at, len(row) - 1] for at, row in enumerate(rows)])
    scores: torch.Tensor = model.score(last)[:, 0]
    return scores


def _padded_reward_losses(model: Any, pairs: Pairs) -> torch.Tensor:
    """Bradley-Terry with margins, and both orders at half weight for ties, pair by pair."""
    chosen = _padded_scores(model, pairs.chosen_sequences)
    rejected = _padded_scores(model, pairs.rejected_sequences)
    losses = []
    for c, r, margin, tie in zip(chosen, rejected, pairs.margins, pairs.ties, strict=True):
        if tie:
            losses.append(-torch.sigmoid(c - r).log() / 2 - torch.sigmoid(r - c).log() / 2)
        else:
            losses.append(-torch.sigmoid(c - r - margin).log())
    return torch.stack(losses)


def _assert_same(model: Any, loss: torch.Tensor, plain: Any, wanted: torch.Tensor) -> None:
    assert plain.config._attn_implementation == "sdpa"
    torch.testing.assert_close(loss, wanted, rtol=TOLERANCE, atol=TOLERANCE)
    found, oracle = _gradients(model, loss), _gradients(plain, wanted)
    assert found.keys() == oracle.keys()
    for name in found:
        torch.testing.assert_close(found[name], oracle[name], rtol=TOLERANCE, atol=TOLERANCE)


@FAMILIES
def test_sft_loss_and_gradients_equal_the_padded_ones(
    make_sft: Any, make_network: Callable[..., Any], family: str
) -> None:
    trainer = make_sft(family)
    plain = make_network(family, vocab=VOCAB)  # the same weights; TRL has not touched it
    _assert_same(trainer.model, _loss(trainer), plain, _padded_sft_loss(plain))


@FAMILIES
@pytest.mark.parametrize("pairs", [PAIRS, RANKED], ids=["pairs", "ranked"])
def test_reward_loss_and_gradients_equal_the_padded_ones(
    make_reward: Any, make_network: Callable[..., Any], family: str, pairs: Pairs
) -> None:
    trainer = make_reward(family, pairs)
    plain = make_network(family, vocab=VOCAB, score_head=True)  # the same weights
    _assert_same(trainer.model, _loss(trainer), plain, _padded_reward_losses(plain, pairs).mean())


@FAMILIES
def test_loss_of_prompts_is_the_mean_over_prompts_of_the_means_over_their_pairs(
    make_reward: Any, make_network: Callable[..., Any], family: str
) -> None:
    trainer = make_reward(family, RANKED, batch_element="prompt")
    plain = make_network(family, vocab=VOCAB, score_head=True)  # the same weights
    first, second, other, third = _padded_reward_losses(plain, RANKED)
    wanted = ((first + second + third) / 3 + other) / 2
    _assert_same(trainer.model, _loss(trainer), plain, wanted)


def test_each_completion_of_a_prompt_is_computed_once(
    make_reward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    inner = packed_trainers.sequence_scores

    def count(model: Any, rows: Any) -> torch.Tensor:
        seen.append(len(rows))
        return inner(model, rows)

    monkeypatch.setattr(packed_trainers, "sequence_scores", count)
    _loss(make_reward("llama", RANKED))
    _loss(make_reward("llama", RANKED, batch_element="prompt"))
    assert seen == [8, 5]  # two a pair; A, B, C, and D, E


@FAMILIES
@pytest.mark.parametrize("most_tokens", [30, 20, 1], ids=["few", "more", "a row each"])
def test_sft_step_in_microbatches_is_the_step_of_the_batch(
    make_sft: Any, family: str, most_tokens: int
) -> None:
    _assert_same_step(make_sft(family), make_sft(family), most_tokens, 33)


def test_sft_of_a_mixture_of_experts_balances_them_in_microbatches(
    tokenizer: Any, make_run: Any, tmp_path: Path
) -> None:
    settings = AutoConfig.for_model(
        "olmoe", vocab_size=VOCAB, hidden_size=32, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
        pad_token_id=0,
    )  # fmt: skip
    network = AutoModelForCausalLM.from_config(settings)
    config = SFTStageConfig(batch_size=4, tokens_per_microbatch=20)
    learned = _encoded(sft.as_columns(ROWS))
    trainer = sft._build_trainer(network, tokenizer, learned, config, make_run(tmp_path))
    _step(trainer)
    assert trainer._metrics["train"]["aux_loss"][0] >= 1.0  # 1 where experts are used alike
    assert network.model.layers[0].mlp.gate.weight.grad.abs().sum() > 0


@FAMILIES
@pytest.mark.parametrize("element", ["pair", "prompt"])
@pytest.mark.parametrize("most_tokens", [40, 1])
def test_reward_step_in_microbatches_is_the_step_of_the_batch(
    make_reward: Any, family: str, element: str, most_tokens: int
) -> None:
    whole, cut = (make_reward(family, RANKED, batch_element=element) for _ in range(2))
    _assert_same_step(whole, cut, most_tokens, 43 if element == "prompt" else 66)


def _assert_same_step(whole: Any, cut: Any, most_tokens: int, tokens: int) -> None:
    """Loss, gradients and everything logged, of one batch with and without micro-batches."""
    cut.tokens_per_microbatch = most_tokens
    computed: list[int] = []
    order: list[str] = []

    def note(_: Any, args: tuple[torch.Tensor, ...]) -> None:
        computed.append(args[0].numel())
        order.append("forward")

    embeddings = cut.model.get_input_embeddings()
    counting = embeddings.register_forward_pre_hook(note)
    embeddings.weight.register_hook(lambda _: order.append("backward"))
    losses = [_step(trainer) for trainer in (whole, cut)]
    counting.remove()
    assert len(computed) > 1  # micro-batches
    assert sum(computed) == tokens  # each token once
    assert order == ["forward", "backward"] * len(computed)  # activations of one at a time
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    one, other = (
        torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
        for trainer in (whole, cut)
    )
    assert torch.linalg.vector_norm(one - other) <= 1e-5 * torch.linalg.vector_norm(one)
    logged = [trainer._metrics["train"] for trainer in (whole, cut)]
    assert logged[0].keys() == logged[1].keys()
    for name, values in logged[0].items():
        assert logged[1][name] == pytest.approx(values, rel=1e-5)


def _step(trainer: Any) -> float:
    """Gradients of the first batch."""
    (batch,) = trainer.get_train_dataloader()
    items = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    trainer.current_gradient_accumulation_steps = 1  # as `train` says
    return float(trainer.training_step(trainer.model, batch, items))


@FAMILIES
@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_recomputed_activations_give_the_same_step(
    make_sft: Any, make_reward: Any, family: str, stage: str
) -> None:
    make = make_sft if stage == "sft" else make_reward
    found = []
    for wanted in False, True:
        trainer = make(family, gradient_checkpointing=wanted, tokens_per_microbatch=40)
        calls: list[int] = []
        layers = trainer.model.base_model
        first = (layers.layers if family == "llama" else layers.h)[0].mlp
        first.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        loss = _step(trainer)
        found.append((loss, [p.grad for p in trainer.model.parameters()], len(calls)))
    (loss, gradients, calls_kept), (again, recomputed, calls_recomputed) = found
    assert calls_recomputed == 2 * calls_kept
    assert again == loss
    assert all(torch.equal(a, b) for a, b in zip(gradients, recomputed, strict=True))


def test_no_element_is_cut_and_microbatches_keep_within_the_budget(
    make_reward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    inner = packed_trainers.sequence_scores

    def count(model: Any, rows: Any) -> torch.Tensor:
        seen.append(int(rows.lengths.sum()))
        return inner(model, rows)

    monkeypatch.setattr(packed_trainers, "sequence_scores", count)
    trainer = make_reward("llama", RANKED, batch_element="prompt")
    trainer.tokens_per_microbatch = 20
    _loss(trainer)
    # 3 * 3 + 4 + 2 + 8 of the one prompt, more than 20 but whole, and 2 * 6 + 5 + 3 of the other.
    assert seen == [23, 20]


def test_a_tie_is_lost_least_at_equal_scores() -> None:
    chosen = torch.tensor([0.0, 1.0, -1.0], requires_grad=True)
    none, tie = torch.zeros(3), torch.ones(3, dtype=torch.bool)
    losses = packed_trainers.pair_losses(chosen, none, none, tie)
    # log 2; and -(log sigmoid(1) + log sigmoid(-1)) / 2 = (0.31326 + 1.31326) / 2 both ways
    torch.testing.assert_close(losses, torch.tensor([0.69315, 0.81326, 0.81326]), rtol=0, atol=1e-5)
    (slopes,) = torch.autograd.grad(losses.sum(), chosen)
    assert slopes[0] == 0
    assert slopes[1] > 0 > slopes[2]


def test_ties_alone_are_learned_from_and_not_logged(make_reward: Any) -> None:
    ties = _pairs([ASKED], [A], [B], [0.0], ties=[True])
    trainer = make_reward("llama", ties)
    assert float(_loss(trainer).detach()) >= 0.6931
    assert not trainer._metrics["train"]


@FAMILIES
def test_sft_loss_is_the_sum_over_rows_alone(make_sft: Any, family: str) -> None:
    total = 0.0
    for prompt, completion in zip(ROWS.prompts, ROWS.completions, strict=True):
        alone = _demonstrations([prompt], [completion])
        total += float(_loss(make_sft(family, alone)).detach()) * len(completion)
    tokens = sum(map(len, ROWS.completions))
    assert float(_loss(make_sft(family)).detach()) == pytest.approx(total / tokens, rel=TOLERANCE)


@FAMILIES
def test_reward_loss_is_the_mean_over_pairs_alone(make_reward: Any, family: str) -> None:
    losses = []
    for at in range(len(PAIRS)):
        alone = _pairs([PAIRS.prompts[at]], [PAIRS.chosen[at]], [PAIRS.rejected[at]], [MARGINS[at]])
        losses.append(float(_loss(make_reward(family, alone)).detach()))
    wanted = sum(losses) / len(losses)
    assert float(_loss(make_reward(family)).detach()) == pytest.approx(wanted, rel=TOLERANCE)


def test_sft_logs_what_trl_logs_and_large_vocabularies_go_through_its_head(
    make_sft: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, trl = make_sft("llama"), make_sft("llama")
    loss = _loss(ours)
    monkeypatch.setattr(packed_trainers, "MOST_LOGITS", 0)
    monkeypatch.delattr(packed_trainers, "_predict_labels")
    torch.testing.assert_close(loss, _loss(trl), rtol=TOLERANCE, atol=TOLERANCE)
    logged = {name: values[0] for name, values in ours._metrics["train"].items()}
    assert logged.keys() == {"entropy", "mean_token_accuracy", "num_tokens"}
    assert logged["num_tokens"] == 33  # 14 of prompts, 19 of completions
    for name, value in logged.items():
        assert value == pytest.approx(trl._metrics["train"][name][0], rel=TOLERANCE)


def test_reward_logs_the_scores_of_the_padded_rows(
    make_reward: Any, make_network: Callable[..., Any]
) -> None:
    trainer = make_reward("llama")
    plain = make_network("llama", vocab=VOCAB, score_head=True)  # the same weights
    _loss(trainer)
    chosen = _padded_scores(plain, PAIRS.chosen_sequences).tolist()
    rejected = _padded_scores(plain, PAIRS.rejected_sequences).tolist()
    pairs = list(zip(chosen, rejected, strict=True))
    wanted = {
        "accuracy": sum(c > r for c, r in pairs) / 4,
        "margin": sum(c - r for c, r in pairs) / 4,
        "mean_reward": sum(chosen + rejected) / 8,
        "min_reward": min(chosen + rejected),
        "max_reward": max(chosen + rejected),
        "num_tokens": 63,  # twice 13 of prompts, 19 and 18 of completions
    }
    logged = {name: values[0] for name, values in trainer._metrics["train"].items()}
    assert logged == pytest.approx(wanted, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("rows", [1, 4])
def test_sft_is_set_up_without_a_warning(
    make_sft: Any,
    rows: int,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    some = _demonstrations(ROWS.prompts[:rows], ROWS.completions[:rows])
    _loss(make_sft("llama", some))
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert [str(w.message) for w in recwarn if "padding" in str(w.message)] == []
