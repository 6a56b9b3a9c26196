"""The formulas by hand, on a network small enough to count."""

from dataclasses import replace
from typing import Any

import pytest

from flows.parameters import load_preset
from flows.planning.costs import Known
from flows.planning.memory import (
    KEPT,
    LORA_HOLES,
    Formulas,
    MemoryPart,
    Mode,
    Scale,
    least,
    peak,
)
from flows.planning.needs import memory_of, stages_with_networks
from flows.planning.sizes import NetworkSizes

NETWORK = NetworkSizes(
    layers=2, width=8, vocabulary=100, weights=2000, feed_forward=16, attention=8, keys=4,
    gated=True, adapted=500, linears=7,
)  # fmt: skip
GPU = Scale(gpu=True)

LAYER = 2 * 8 * 12 + 4 * (3 * 8 + 2 * 4) + 4 * 4 * 16
"""Bytes of a token: of two norms the input in float32, it normalised and it scaled; of attention
queries, what it gives and a copy of that, keys and values; four of the feed-forward width."""


def known(*settings: str) -> Known:
    parameters: dict[str, Any] = load_preset("quickstart", settings).model_dump(mode="json")
    numbers = {"tokenizer/bytes_per_token": 4.0, "characters/prompt": 40.0}  # 14 tokens with frame
    return Known(parameters=parameters, numbers=numbers, network=NETWORK)


def sizes(parts: list[MemoryPart]) -> dict[tuple[str, str, str], int]:
    return {(part.role, part.what, part.phase): part.size for part in parts}


def test_memory_of_ppo_by_role_and_part() -> None:
    found = sizes(memory_of("ppo", known("ppo.rollouts_per_minibatch=8", "ppo.ema_decay=0.9")))
    for role in ("actor", "critic"):
        assert found[role, "weights", "held"] == 4 * 2000
        assert found[role, "gradients", "learning"] == 4 * 2000
        assert found[role, "optimiser", "held"] == 2 * 4 * 2000
        # 8 rows of 14 + 44 tokens in 2 layers
        assert found[role, "activations", "learning"] == 8 * 58 * 2 * LAYER
    assert found["reference", "weights", "held"] == found["reward", "weights", "held"] == 4 * 2000
    assert found["actor", "EMA", "held"] == 4 * 2000
    # kept, and twice for the piece under way: 8 * 44 positions are one piece
    assert found["actor", "logits", "learning"] == 3 * 8 * 44 * 100 * 4
    # 128 rows: keys and values of two layers, four wide, in float32
    assert found["actor", "KV cache", "sampling"] == 128 * 58 * 2 * 2 * 4 * 4
    assert found["actor", "rollout", "held"] == 128 * 58 * 28


def test_weights_are_laid_out_for_sampling_on_a_cpu_alone() -> None:
    def activations(scale: Scale) -> int:
        formulas = Formulas(model=NETWORK, scale=scale)
        return sizes(formulas.sampled("actor", 8, 14, 58))["actor", "activations", "sampling"]

    assert activations(Scale()) - activations(GPU) == 4 * 2000


@pytest.mark.parametrize("lora", [(), ("ppo.lora.rank=4",)])
def test_without_a_critic_its_parts_are_gone_and_no_others(lora: tuple[str, ...]) -> None:
    four = sizes(memory_of("ppo", known(*lora)))
    three = sizes(memory_of("ppo", known("ppo.advantages=grpo", *lora)))
    rollout = ("actor", "rollout", "held")
    assert three.pop(rollout) == 128 * 58 * 20  # of each token no value and no return
    assert three == {part: size for part, size in four.items() if part[0] != "critic"
                     and part != rollout}  # fmt: skip


def test_best_of_n_samples_first_and_trains_then() -> None:
    few, many = known("sft.batch_size=1"), known("sft.batch_size=4000")
    assert memory_of("best-of-n", many) == memory_of("sft", many)
    sampled = sizes(memory_of("best-of-n", few))
    assert {role for role, _, _ in sampled} == {"policy", "reward"}
    assert peak(memory_of("best-of-n", few)) > peak(memory_of("sft", few))
    stages = stages_with_networks(known("align=best_of_n"))
    assert [stage for stage in stages if stage in ("ppo", "best-of-n")] == ["best-of-n"]
    assert "best-of-n" not in stages_with_networks(known())


def test_dpo_has_one_network_that_learns() -> None:
    found = sizes(memory_of("dpo", known("dpo.batch_size=2", "dpo.lora.rank=4")))
    assert {role for role, _, _ in found} == {"policy"}
    assert found["policy", "optimiser", "held"] == 2 * 4 * 4 * 500
    assert "dpo" in stages_with_networks(known("align=dpo"))
    assert "ppo" not in stages_with_networks(known("align=dpo"))


def test_a_microbatch_bounds_a_pass_and_processes_divide_it() -> None:
    cut = sizes(memory_of("ppo", known("ppo.tokens_per_microbatch=100")))
    assert cut["critic", "activations", "learning"] == 100 * 2 * LAYER
    dealt = sizes(memory_of("ppo", known("ppo.rollouts_per_minibatch=8"), Scale(replicas=2)))
    assert dealt["critic", "activations", "learning"] == 4 * 58 * 2 * LAYER


def test_ppo_keeps_no_logits_where_they_are_many() -> None:
    """But for networks that are spread, whose heads are not computed again, and pretraining's."""
    piece = 4 * 100 * 2048
    made = Formulas(model=NETWORK)
    assert made.logits("actor", 5000).size == 4 * 100 * 5000 + 2 * piece
    assert made.logits("actor", 3e6).size == 3 * piece  # more than 2^28
    assert made.logits("base", 3e6, kept=True).size == 4 * 100 * 3_000_000 + 2 * piece
    spread = Formulas(model=NETWORK, scale=Scale(shards=2))
    assert spread.logits("actor", 3e6).size == 4 * 100 * 3_000_000 + 2 * piece


def test_the_head_of_sft_takes_many_logits_in_tiles() -> None:
    made = Formulas(model=NETWORK)
    assert made.tiled_logits("sft", 5000).size == 4 * 4 * 100 * 5000
    assert made.tiled_logits("sft", 3e6).size == 4 * 4 * 100 * 2048  # more than 2^28
    on_gpu = Formulas(model=NETWORK, scale=GPU)
    assert on_gpu.tiled_logits("sft", 5000).size == 4 * 4 * 100 * 2048


def test_checkpointing_keeps_the_input_of_each_layer_and_one_layer() -> None:
    made = Formulas(model=NETWORK, mode=Mode(checkpointing=True)).activations("actor", 10)
    assert made.size == 10 * (2 * 8 * 4 + LAYER)


def test_adapters_share_trunks_and_have_moments_of_their_own() -> None:
    parts = memory_of("ppo", known("ppo.lora.rank=4"))
    found = sizes(parts)
    adapter = 4 * 500
    assert found["actor", "weights", "held"] == 4 * (2000 + adapter)
    assert found["critic", "weights", "held"] == 4 * adapter  # on the reward model's trunk
    assert found["reward", "weights", "held"] == 4 * 2000
    assert found["critic", "optimiser", "held"] == 2 * 4 * adapter
    assert ("reference", "weights", "held") not in found
    norms = 2 * 8 * 8  # a frozen scale needs no input
    layer = norms + LAYER - 2 * 8 * 12 + 4 * 4 * 7  # seven outputs of four
    assert found["critic", "activations", "learning"] == pytest.approx(
        64 * 58 * 2 * layer * (1 + LORA_HOLES), abs=1
    )


def test_formulas_of_half_precision_and_shards() -> None:
    half = Formulas(model=NETWORK, mode=Mode(precision="bfloat16"), scale=GPU)
    weights, gradients, optimiser = half.trained("actor")
    assert weights.size == (2 + 4) * 2000  # with a master in float32
    assert gradients.size == 4 * 2000  # of the master
    assert optimiser.size == 8 * 2000
    assert half.weights("reference").size == 2 * 2000
    open_ = Formulas(model=NETWORK, scale=replace(GPU, half=True))
    assert open_.weights("reference").size == 2 * 2000
    assert open_.trained("actor")[0].size == 4 * 2000
    cut = Formulas(model=NETWORK, scale=replace(GPU, shards=4))
    assert cut.weights("reference").size == 4 * 2000 / 4
    assert cut.trained("actor")[2].size == 2 * 4 * 2000 / 4
    # while it computes: two gathered layers of (2000 - 800) / 2, and the embeddings
    for parts in (cut.trained("actor"), cut.looked_at("x", 5, 3), cut.sampled("x", 2, 3, 5)):
        (gathered,) = (part for part in parts if part.what == "gathered")
        assert gathered.size == 4 * (2 * 600 + 800)
        assert gathered.phase != "held"
    assert not half.gathered("actor", "learning")


PARTS = [
    MemoryPart(role="actor", what="weights", size=100),
    MemoryPart(role="actor", what="gradients", size=10, phase="learning"),
    MemoryPart(role="actor", what="activations", size=30, phase="learning"),
    MemoryPart(role="critic", what="activations", size=20, phase="learning"),
    MemoryPart(role="actor", what="KV cache", size=39, phase="sampling"),
]


@pytest.mark.parametrize(
    ("scale", "wanted"),
    [
        (GPU, 100 + 40),
        (Scale(), 100 + 40 + KEPT * 20),
        (Scale(side_by_side=True), 100 + 40 + 20),
    ],
)
def test_of_what_comes_in_turn_the_most_counts(scale: Scale, wanted: float) -> None:
    assert peak(PARTS, scale) == wanted
    assert least(PARTS) == 100 + 39  # gradients come as activations go


def test_stages_that_train_or_sample() -> None:
    assert stages_with_networks(known()) == [
        "pretrain", "sft", "feedback", "reward", "reward-quality", "ppo", "evaluate",
    ]  # fmt: skip
    assert stages_with_networks(known("feedback.annotator=people"))[2:4] == [
        "feedback-samples",
        "reward",
    ]
    assert memory_of("prepare", known()) == []
    assert all(memory_of(stage, known()) for stage in stages_with_networks(known()))
