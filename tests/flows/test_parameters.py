"""Parameters from presets and `--set`: what is wrong is named together with what is possible."""

import pytest
from pydantic import ValidationError

from flows.parameters import (
    PipelineParameters,
    changed_from_preset,
    list_presets,
    load_preset,
)
from models.errors import ParameterError


def refused(preset: str, *settings: str) -> str:
    with pytest.raises(ParameterError) as raised:
        load_preset(preset, settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_load_preset_sets_nested_fields_and_leaves_the_others() -> None:
    plain = load_preset("quickstart")
    changed = load_preset(
        "quickstart", ["ppo.kl_coef=0.1", "seed=3", "data.world.preferences=50", "seed=4"]
    )
    assert changed.ppo.kl_coef == 0.1
    assert changed.seed == 4  # the last one counts
    assert changed.data.world.preferences == 50
    assert (
        changed.model_copy(update={"ppo": plain.ppo, "seed": plain.seed, "data": plain.data})
        == plain
    )


@pytest.mark.parametrize("preset", list(list_presets()))
def test_changed_from_preset_is_empty_for_the_preset_itself(preset: str) -> None:
    assert changed_from_preset(load_preset(preset)) == {}


def test_changed_from_preset_names_what_differs_in_the_order_of_the_form() -> None:
    settings = ["ppo.kl_coef=0.16", "ppo.lora.rank=4", "pretrain.steps=2200", "seed=2"]
    changed = changed_from_preset(load_preset("quickstart", settings))
    assert list(changed) == ["seed", "ppo.kl_coef", "ppo.lora.rank", "ppo.lora.alpha"]
    assert changed["ppo.kl_coef"] == 0.16
    opened = load_preset("quickstart").model_copy(update={"preset": "custom"})
    assert changed_from_preset(opened)["ppo.kl_coef"] == 0.2  # against the defaults


def test_load_preset_sets_a_field_that_the_preset_does_not_name() -> None:
    assert load_preset("quickstart", ["base.source=gpt2"]).base.source == "gpt2"
    assert load_preset("reviews", ["ppo.gamma=0.9"]).ppo.gamma == 0.9
    whole = ["ppo.overlong_tokens=24", "sampling.max_completion_tokens=24"]
    assert load_preset("quickstart", whole).ppo.overlong_tokens == 24


def test_load_preset_opens_a_group_that_is_off_by_default() -> None:
    assert load_preset("quickstart").ppo.lora is None
    lora = load_preset("quickstart", ["ppo.lora.rank=4"]).ppo.lora
    assert lora is not None
    assert (lora.rank, lora.alpha) == (4, 32.0)
    assert load_preset("quickstart", ["ppo.alarms.action=stop"]).ppo.alarms.action == "stop"
    assert load_preset("quickstart", ["ppo.kl_target=4"]).ppo.kl_target == 4.0
    with pytest.raises(ParameterError, match=r"fields of ppo\.lora are: rank, alpha"):
        load_preset("quickstart", ["ppo.lora.ranks=4"])


@pytest.mark.parametrize(
    ("setting", "group", "field", "wanted"),
    [
        ("ppo.actor_learning_rate=1e-6", "ppo", "actor_learning_rate", 1e-6),
        ("ppo.actor_learning_rate=2.5e-5", "ppo", "actor_learning_rate", 2.5e-5),
        ("ppo.kl_coef=0", "ppo", "kl_coef", 0.0),
        ("model.family=gpt2", "model", "family", "gpt2"),
        ("base.source=a=b", "base", "source", "a=b"),
        ("base.source=", "base", "source", ""),
        ("base.source=2024", "base", "source", "2024"),
        ("base.revision=1e10", "base", "revision", "1e10"),
    ],
)
def test_load_preset_reads_values_as_people_write_them(
    setting: str, group: str, field: str, wanted: object
) -> None:
    found = getattr(getattr(load_preset("quickstart", [setting]), group), field)
    assert found == wanted
    assert type(found) is type(wanted)


def test_load_preset_takes_a_shape_in_place_of_the_presets_sizes() -> None:
    model = load_preset("quickstart", ["model.shape=small", "model.layers=2"]).model
    assert (model.layers, model.width, model.heads) == (2, 512, 8)  # what is set beside it wins
    assert model.context == load_preset("quickstart").model.context  # no part of a size
    form = {"model": {"layers": 3, "width": 128}}  # the run form gives every field it shows
    assert load_preset("quickstart", ["model.shape=gpt2"], form).model.width == 768


def test_load_preset_reads_switches() -> None:
    for text, wanted in (("true", True), ("false", False), ("yes", True)):
        found = load_preset("quickstart", [f"data.world.shuffle_preferences={text}"])
        assert found.data.world.shuffle_preferences is wanted


def test_load_preset_does_not_change_the_preset_for_the_next_call() -> None:
    load_preset("quickstart", ["ppo.iterations=1"])
    assert load_preset("quickstart").ppo.iterations == 40


def test_load_preset_names_presets_when_unknown() -> None:
    message = refused("quikstart")
    assert "unknown preset 'quikstart'" in message
    assert "did you mean 'quickstart'" in message
    for name in list_presets():
        assert name in message


@pytest.mark.parametrize("name", ["../pyproject", "quickstart.yaml", "", "README"])
def test_load_preset_takes_names_and_no_paths(name: str) -> None:
    assert "presets are: hh-rlhf, quickstart, reviews, reviews-pretrained" in refused(name)


def test_load_preset_switches_a_group_off_that_may_be_off() -> None:
    lora = ["sft.lora.rank=8", "sft.lora=null"]
    assert load_preset("quickstart", lora).sft.lora is None
    again = load_preset("quickstart", [*lora, "sft.lora.alpha=4"]).sft.lora
    assert again is not None
    assert again.alpha == 4
    assert refused("quickstart", "ppo.lora=8").endswith("or ppo.lora=null to switch it off")
    assert "'ppo' is a group, not a field" in refused("quickstart", "ppo=null")


def test_load_preset_names_fields_when_unknown() -> None:
    message = refused("quickstart", "ppo.klcoef=0.1")
    assert "unknown field 'ppo.klcoef'" in message
    assert "did you mean 'kl_coef'" in message
    assert "fields of ppo are: iterations, rollouts_per_iteration" in message
    top = refused("quickstart", "pppo.kl_coef=0.1")
    assert "did you mean 'ppo'" in top
    assert "the top level" in top
    assert "evaluate" in top
    assert "fields of data.world are: documents" in refused("quickstart", "data.world.x=1")


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("ppo=1", "'ppo' is a group, not a field; set one of: ppo.iterations"),
        ("data.world=1", "set one of: data.world.documents"),
        ("seed.more=1", "'seed.more' goes into a field that has no fields of its own"),
        ("ppo.kl_coef", "wanted path.to.field=value"),
        ("=1", "unknown field ''"),
        ("ppo.=1", "unknown field 'ppo.'"),
    ],
)
def test_load_preset_explains_a_setting_that_is_none(setting: str, wanted: str) -> None:
    assert wanted in refused("quickstart", setting)


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("ppo.kl_coef=-1", "ppo.kl_coef: got -1, input should be greater than or equal to 0"),
        ("ppo.kl_coef=much", "ppo.kl_coef: got 'much', input should be a valid number"),
        ("ppo.iterations=1.5", "ppo.iterations: got 1.5, input should be a valid integer"),
        ("model.family=t5", "model.family: got 't5', input should be 'llama', 'gpt2', 'mixtral'"),
        ("model.shape=huge", "model.shape: got 'huge', input should be '', 'nano', 'micro'"),
        ("seed=-1", "seed: got -1, input should be greater than or equal to 0"),
        (
            "data.source=net",
            "data.source: got 'net', input should be 'world', 'folder' or 'sources'",
        ),
    ],
)
def test_load_preset_names_field_value_and_what_is_possible(setting: str, wanted: str) -> None:
    assert wanted in refused("quickstart", setting)


def test_load_preset_names_every_wrong_value_at_once() -> None:
    message = refused("quickstart", "ppo.kl_coef=-1", "model.layers=0")
    assert "ppo.kl_coef: got -1" in message
    assert "model.layers: got 0" in message


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (
            ["ppo.rollouts_per_minibatch=48"],
            ("rollouts_per_minibatch 48", "rollouts_per_iteration 128", "32", "64"),
        ),
        (["model.width=130"], ("width 130", "heads 4", "divisible by 8")),
        (["model.family=bert"], ("model.family is bert", "next token", "choose llama, gpt2")),
        (["model.family=bart"], ("model.family is bart", "run foundations")),
        (["model.family=lstm"], ("model.family is lstm", "need a Transformer")),
        (["model.shape=bert-base"], ("model.family is bert", "choose llama, gpt2")),
        (["model.shape=gpt2", "model.family=llama"], ("shape gpt2 is of family gpt2", "llama")),
        (["pretrain.block_tokens=65"], ("pretrain.block_tokens", "model.context 64")),
        (["sampling.max_completion_tokens=64"], ("max_completion_tokens", "model.context 64")),
        (
            ["ppo.overlong_tokens=25", "sampling.max_completion_tokens=24", "base.source=gpt2"],
            ("ppo.overlong_tokens 25", "sampling.max_completion_tokens 24", "at most 24"),
        ),
        (["data.source=folder"], ("data.folder",)),
        (["data.folder=mine"], ("data.source=folder",)),
        (["data.source=folder", "data.folder=x"], ("feedback.annotator=people, endpoint or none",)),
        (["data.source=sources"], ("data.preferences",)),
        (
            [
                "data.source=sources",
                "data.preferences=a/b",
                "feedback.annotator=none",
            ],
            ("base.source", "data.corpus"),
        ),
        (
            [
                "data.source=sources",
                "data.preferences=a/b",
                "feedback.annotator=none",
                "base.source=some/model",
                "ppo.ptx_coef=0.1",
            ],
            ("ppo.ptx_coef is 0.1", "data.corpus is empty"),
        ),
        (["evaluate.min_length_ratio=3"], ("min_length_ratio 3", "max_length_ratio 2")),
    ],
)
def test_load_preset_explains_parameters_that_do_not_fit_each_other(
    settings: list[str], wanted: tuple[str, ...]
) -> None:
    message = refused("quickstart", *settings)
    for part in wanted:
        assert part in message


def test_parameters_refuse_a_name_they_do_not_know() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        PipelineParameters.model_validate({"ppo": {"kl": 1}})


def test_parameters_leave_the_context_to_a_base_model_that_exists() -> None:
    settings = ["sampling.max_completion_tokens=100", "base.source=some/model"]
    assert load_preset("quickstart", settings).sampling.max_completion_tokens == 100


def test_parameters_survive_a_trip_as_plain_values() -> None:
    parameters = load_preset("quickstart", ["seed=5"])
    again = PipelineParameters.model_validate(parameters.model_dump(mode="json"))
    assert again == parameters


def test_load_preset_refuses_another_label() -> None:
    assert "give it as the argument" in refused("quickstart", "preset=nonsense")


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ([], True),
        (["base.source=some/model"], False),
        (["base.source=some/model", "ppo.ptx_coef=0.1"], True),
    ],
)
def test_parameters_need_a_corpus_for_a_base_model_or_the_pretraining_mix(
    settings: list[str], needed: bool
) -> None:
    assert load_preset("quickstart", ["ppo.ptx_coef=0", *settings]).needs_corpus is needed
