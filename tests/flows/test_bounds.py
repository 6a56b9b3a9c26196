"""Every number of every config and form has an upper bound, and nothing passes for a number."""

import math
from types import NoneType
from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from flows.forms import PPOForm, RunForm
from flows.parameters import PipelineParameters, load_preset
from flows.promotion import PromotionForm
from models.benchmarks.config import MultipleChoiceConfig
from models.errors import ParameterError
from tasks.judging.config import EvaluateModelsConfig

FACES: tuple[type[BaseModel], ...] = (
    PipelineParameters,
    RunForm,
    PPOForm,
    PromotionForm,
    EvaluateModelsConfig,
    MultipleChoiceConfig,
)


def number_fields() -> list[Any]:
    found: dict[str, Any] = {}
    waiting = list(FACES)
    while waiting:
        model = waiting.pop()
        for name, field in model.model_fields.items():
            kinds = {field.annotation, *get_args(field.annotation)} - {NoneType}
            waiting += [
                one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)
            ]
            if kinds & {int, float}:
                found[f"{model.__name__}.{name}"] = pytest.param(
                    model, name, id=f"{model.__name__}.{name}"
                )
    return list(found.values())


def test_the_fields_are_found() -> None:
    assert len(number_fields()) > 100


@pytest.mark.parametrize(("model", "name"), number_fields())
def test_numbers_are_bounded(model: type[BaseModel], name: str) -> None:
    schema = TypeAdapter(model).json_schema()
    schema = schema["properties"][name]
    schema = next((one for one in schema.get("anyOf", []) if one["type"] != "null"), schema)
    assert {"maximum", "exclusiveMaximum"} & schema.keys()
    assert {"minimum", "exclusiveMinimum"} & schema.keys()
    for value in (True, False, 10**30, -(10**30), math.inf, -math.inf, math.nan, "10**20", [1]):
        with pytest.raises(ValidationError) as raised:
            model.model_validate({name: value})
        assert (name,) in {error["loc"][:1] for error in raised.value.errors()}, value


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("model.layers=1000000000", "model.layers: got 1000000000, input should be less than"),
        ("pretrain.steps=100000000000000000000", "pretrain.steps: got 1"),
        ("seed=true", "seed: got True, input should be a number, not true or false"),
        ("seed=4294967296", "less than or equal to 4294967295"),
        ("ppo.kl_coef=.inf", "ppo.kl_coef: got inf, input should be a finite number"),
        ("ppo.kl_target=true", "not true or false"),
        ("seed=1" + "0" * 5000, "seed: the value '1"),
        ("seed=" + "[" * 3000, "recursion"),
        ("seed=2001-99-99", "month must be in 1..12"),
        ("seed=[1", "cannot be read"),
        ("base.source=a\0b", "without null characters"),
        ("base.source=a\udcff", "without null characters"),
    ],
)
def test_hostile_settings_are_one_short_line(setting: str, wanted: str) -> None:
    with pytest.raises(ParameterError) as raised:
        load_preset("quickstart", [setting])
    message = str(raised.value)
    assert wanted in message
    assert "\n" not in message
    assert len(message) < 700


def test_a_switch_still_takes_true_and_a_number_its_digits_as_text() -> None:
    assert load_preset("quickstart", ["ppo.whiten_advantages=false"]).ppo.whiten_advantages is False
    assert load_preset("quickstart", ["ppo.iterations='7'"]).ppo.iterations == 7
