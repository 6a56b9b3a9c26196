"""A plan's numbers by hand: tokens and operations."""

from typing import Any

import pytest

from flows.parameters import load_preset
from flows.planning import costs
from flows.planning.costs import Known, Work, work_of
from flows.planning.sizes import NetworkSizes
from tasks.stages.reward_quality import UNJUDGED

NETWORK = NetworkSizes(
    layers=2, width=8, vocabulary=100, weights=2336, feed_forward=32, attention=8, keys=8,
    gated=True, adapted=352, linears=7,
)  # fmt: skip

NUMBERS = {
    "tokenizer/bytes_per_token": 4.0,
    "characters/prompt": 40.0,  # 10 tokens, 14 with the template's
    "characters/completion": 60.0,  # 15 tokens, 16 with EOS
    "characters/pair": 200.0,  # 50 tokens, 58 with the template's
    "data/demonstrations_rows": 1000.0,
    "data/preferences_rows": 400.0,
    "data/preferences_heldout_rows": 100.0,
    "data/prompts_heldout_rows": 50.0,
}


PROMPTS = {"data/prompts_rows": 60.0}


def known(
    *settings: str, numbers: dict[str, float] | None = None, preset: str = "quickstart"
) -> Known:
    parameters: dict[str, Any] = load_preset(preset, settings).model_dump(mode="json")
    return Known(
        parameters=parameters, numbers=NUMBERS if numbers is None else numbers, network=NETWORK
    )


def test_work_of_each_stage_by_hand() -> None:
    k = known("feedback.annotator=none", "sft.epochs=2", "reward.moment_samples=20")
    assert work_of("pretrain", k) == Work(trained=2200 * 16 * 64)
    assert work_of("sft", k) == Work(trained=2 * 1000 * (14 + 15))
    assert work_of("reward", k) == Work(
        trained=400 * 58, sampled=20 * 16, scored=100 * 58 + 20 * 30
    )
    assert work_of("ppo", k) == Work(  # 40 * 128 rollouts of 14 + 16 tokens
        trained=2 * 2 * 5120 * 30, sampled=5120 * 16, scored=4 * 5120 * 30
    )
    alone = known("ppo.advantages=rloo")
    assert work_of("ppo", alone) == Work(  # no critic learns or looks
        trained=2 * 5120 * 30, sampled=5120 * 16, scored=3 * 5120 * 30
    )
    chosen = known("best_of_n.samples_per_prompt=4", "sft.epochs=2", numbers=PROMPTS | NUMBERS)
    assert work_of("best-of-n", chosen) == Work(  # 4 of each of 60 prompts, one of them learned
        trained=2 * 60 * 30, sampled=240 * 16, scored=240 * 30
    )
    paired = known("feedback.annotator=none", "dpo.epochs=2", "reward.judge_share=0.25")
    assert work_of("dpo", paired) == Work(  # 300 of 400 pairs, 100 held-out ones twice
        trained=2 * 300 * 58, scored=(300 + 200) * 58
    )
    assert work_of("evaluate", k) == Work(  # both models, 4 samples of each of the 50 prompts
        sampled=2 * 50 * 4 * 16, scored=2 * 2 * 50 * 4 * 30
    )


def test_best_of_n_that_nobody_judges_is_sampled_little() -> None:
    k = known(preset="reviews")  # without a gold judge, and no preference is kept for another
    samples = 50 * min(4, k.get("reward_quality.best_of"))
    assert UNJUDGED == costs.UNJUDGED
    assert work_of("reward-quality", k) == Work(
        sampled=samples * 16, scored=100 * 58 + samples * 30
    )


def test_work_of_feedback_by_people_by_hand() -> None:
    k = known("feedback.annotator=people", "feedback.prompts=20", "feedback.annotated_share=0.5")
    assert work_of("feedback-samples", k) == Work(sampled=1.5 * 20 * 4 * 16)
    assert k.pairs == 20 * 6 / 0.5  # 4 completions make 6 pairs
    assert work_of("feedback", k) == Work(rows=240)
    twice = known("feedback.annotator=people", "feedback.prompts=20", "feedback.rated_twice=0.5")
    assert twice.pairs == 30 * 6 / 0.6  # half of the items have the ratings of two


def test_flops_are_six_for_a_trained_token_and_two_for_others() -> None:
    work = Work(trained=10, sampled=3, scored=4)
    assert work.flops(2336) == 2336 * (6 * 10 + 2 * (3 + 4))
    assert work.tokens == 17


@pytest.mark.parametrize(
    ("settings", "operations"),
    [
        ([], 6),
        (["ppo.gradient_checkpointing=true"], 8),  # one forward pass more
        (["ppo.lora.rank=4"], 4),  # no gradients of frozen weights
        (["ppo.lora.rank=4", "ppo.gradient_checkpointing=true"], 6),
        (["sft.lora.rank=4"], 6),
    ],
)
def test_operations_of_a_trained_token_depend_on_how_it_trains(
    settings: list[str], operations: int
) -> None:
    work = work_of("ppo", known(*settings))
    assert work is not None
    others = 2 * (work.sampled + work.scored)
    assert work.flops(10) == 10 * (operations * work.trained + others)


def test_completions_are_cut_at_the_limit() -> None:
    k = known("sampling.max_completion_tokens=5")
    assert work_of("feedback", k) == Work(sampled=2 * 1.5 * 2400 * 5)


def test_sizes_of_the_world_are_known_before_it_is_prepared_and_own_data_are_not() -> None:
    assert work_of("prepare", known(numbers={})) == Work(rows=0.98 * (24000 + 9000) + 2400)
    own = known("data.folder=somewhere", numbers={}, preset="reviews")
    assert work_of("sft", own) is None
    assert work_of("pretrain", own) is not None


@pytest.mark.parametrize("stage", ["lm-eval", "promotion", "evaluate-models"])
def test_what_is_not_foretold_has_no_numbers(stage: str) -> None:
    assert work_of(stage, known()) is None
