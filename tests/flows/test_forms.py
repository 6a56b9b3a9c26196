"""The run forms: short, filled in from a preset, and refused where they mean something else."""

from pathlib import Path
from typing import Any, get_args

import pytest
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows.forms import PPOForm, PresetName, RunForm, StageForm
from flows.operation.deployments import prefect_yaml
from flows.parameters import list_presets, load_preset
from flows.pipeline import rlhf_pipeline
from models.errors import ParameterError

ROOT = Path(__file__).resolve().parents[2]


def leaves(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every field of a form that a person fills in, by dotted path."""
    found = {}
    for name, field in schema["properties"].items():
        if "$ref" in field:
            group = definitions[field["$ref"].rpartition("/")[2]]
            found |= {f"{name}.{key}": one for key, one in leaves(group, definitions).items()}
        else:
            found[name] = field
    return found


def test_presets_of_the_form_are_those_there_are() -> None:
    assert set(get_args(PresetName)) == set(list_presets())


@pytest.mark.parametrize("preset", list_presets())
@pytest.mark.parametrize("form", [RunForm, PPOForm, StageForm])
def test_filled_in_form_means_the_preset(form: type[StageForm], preset: str) -> None:
    assert form.of(preset).to_parameters() == load_preset(preset)


def test_form_overrules_the_preset_and_further_settings_overrule_the_form() -> None:
    values = RunForm.of("quickstart", ["ppo.kl_coef=0.3", "ppo.gae_lambda=0.5"]).model_dump()
    values["ppo"] |= {"kl_coef": 0.2, "iterations": 7}
    values["seed"] = 5
    parameters = RunForm.model_validate(values).to_parameters()
    assert (parameters.ppo.kl_coef, parameters.ppo.gae_lambda) == (0.3, 0.5)
    assert (parameters.ppo.iterations, parameters.seed) == (7, 5)
    assert parameters.ppo.critic_learning_rate == load_preset("quickstart").ppo.critic_learning_rate


def test_run_form_is_short_and_says_everything() -> None:
    """As Prefect sees it; only what changes no result is optional."""
    schema = parameter_schema(rlhf_pipeline)
    definitions = schema.definitions
    fields = leaves(definitions["RunForm"], definitions)
    assert 15 <= len(fields) <= 27
    for path, field in fields.items():
        assert field["title"], path
        assert field["description"], path
        assert field["type"] in ("string", "integer", "number", "boolean", "array"), path
    for name in ("RunForm", "PPOFields", "SamplingFields"):
        definition = definitions[name]
        optional = {"name", "note"} if name == "RunForm" else set()
        assert set(definition["properties"]) - set(definition["required"]) == optional, name
    assert fields["ppo.iterations"]["minimum"] == 1
    assert fields["ppo.kl_coef"]["title"] == "KL coefficient"  # made from the name
    assert fields["ppo.kl_coef"]["description"].startswith("Weight of")  # the docstring below it


def test_form_with_missing_fields_is_refused() -> None:
    with pytest.raises(ValidationError, match="ppo"):
        RunForm.model_validate({"preset": "quickstart", "seed": 1})


def test_form_filled_in_from_another_preset_is_refused() -> None:
    form = RunForm.of("quickstart").model_copy(update={"preset": "reviews"})
    with pytest.raises(ParameterError, match=r"'quickstart'.*got preset 'reviews'.*start the"):
        form.check_deployment(RunForm.of("quickstart").model_dump())
    StageForm.of("reviews").check_deployment(StageForm.of("quickstart").model_dump())
    form.check_deployment({})


def test_prefect_yaml_is_what_the_deployments_say() -> None:
    """Regenerate it by `python -m flows.operation.deployments > prefect.yaml`."""
    assert (ROOT / "prefect.yaml").read_text(encoding="utf-8") == prefect_yaml()
