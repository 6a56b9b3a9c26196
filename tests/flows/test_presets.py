"""Every preset validates and says what it promises."""

import pytest

from flows.parameters import PipelineParameters, list_presets, load_preset


def test_presets_are_listed_with_one_line_each() -> None:
    presets = list_presets()
    assert list(presets) == ["hh-rlhf", "quickstart", "reviews", "reviews-pretrained"]
    for description in presets.values():
        assert description
        assert "\n" not in description


@pytest.mark.parametrize("name", list_presets())
def test_preset_validates_and_carries_its_name(name: str) -> None:
    parameters = load_preset(name)
    assert parameters.preset == name
    assert parameters.seed == 0


@pytest.mark.parametrize("name", list_presets())
def test_preset_can_be_shown_in_a_form_and_sent_back(name: str) -> None:
    plain = load_preset(name).model_dump(mode="json")
    assert PipelineParameters.model_validate(plain) == load_preset(name)


def test_quickstart_has_the_settings_that_were_tried() -> None:
    p = load_preset("quickstart")
    assert (p.data.source, p.feedback.annotator, p.base.source) == ("world", "simulated", "")
    assert (p.model.layers, p.model.width, p.model.heads, p.model.context) == (3, 128, 4, 64)
    assert (p.pretrain.steps, p.pretrain.batch_size, p.pretrain.block_tokens) == (2200, 16, 64)
    assert p.pretrain.learning_rate == 4e-3
    assert p.sampling.temperature == 0.7
    assert (p.feedback.preferences, p.feedback.annotated_share) == (4000, 0.6)
    assert (p.ppo.iterations, p.ppo.rollouts_per_iteration, p.ppo.rollouts_per_minibatch) == (
        40,
        128,
        64,
    )
    assert (p.ppo.kl_coef, p.ppo.gae_lambda, p.ppo.missing_eos_penalty) == (0.2, 0.95, 3.0)
    assert p.evaluate.prompts >= 512


def test_reviews_wants_the_users_own_files_and_no_annotator() -> None:
    p = load_preset("reviews", ["data.folder=mine"])
    assert (p.data.source, p.data.folder) == ("folder", "mine")
    assert (p.feedback.annotator, p.base.source) == ("none", "")
    assert p.evaluate.prompts >= 512


def test_reviews_pretrained_trains_adapters_as_was_tried() -> None:
    p = load_preset("reviews-pretrained", ["data.folder=mine"])
    assert (p.data.source, p.data.folder) == ("folder", "mine")
    assert p.base.source == "HuggingFaceTB/SmolLM2-135M-Instruct"
    for stage in (p.sft, p.reward, p.ppo):
        assert stage.lora is not None
        assert (stage.lora.rank, stage.lora.alpha) == (16, 32)
    assert p.reward.judge_share == 0.3  # so that a second reward model judges the policy
    assert (p.ppo.missing_eos_penalty, p.ppo.kl_coef, p.ppo.ppo_epochs) == (0, 0.05, 1)
    assert (p.ppo.iterations, p.ppo.rollouts_per_iteration) == (30, 64)


def test_hh_rlhf_fine_tunes_a_small_base_of_the_hub_on_human_preferences() -> None:
    p = load_preset("hh-rlhf")
    assert (p.data.source, p.data.preferences) == ("sources", "Anthropic/hh-rlhf")
    assert p.data.demonstrations == ""  # the chosen completions serve
    assert p.base.source == "HuggingFaceTB/SmolLM2-135M"
    assert p.feedback.annotator == "none"
    assert (p.sampling.temperature, p.sampling.max_completion_tokens) == (1.0, 128)
    assert (p.sft.learning_rate, p.sft.batch_size) == (2e-5, 64)
    assert (p.reward.learning_rate, p.reward.batch_size) == (1e-5, 64)
    assert (p.ppo.actor_learning_rate, p.ppo.critic_learning_rate) == (1e-6, 1e-5)
    assert (p.ppo.rollouts_per_iteration, p.ppo.rollouts_per_minibatch, p.ppo.ppo_epochs) == (
        512,
        64,
        1,
    )
    assert (p.ppo.iterations, p.ppo.critic_warmup_iterations, p.ppo.kl_coef) == (400, 10, 0.05)
    # a sequence and a completion after it fit SmolLM2's context of 2048
    assert p.sft.max_tokens + p.sampling.max_completion_tokens <= 2048
