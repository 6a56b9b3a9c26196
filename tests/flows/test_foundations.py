"""Families of models, tiny but real: what is compared, and that it resumes."""

import pytest

from flows.foundations import FoundationsForm
from models.errors import ParameterError
from tasks.stages.foundations.config import FoundationsParameters


def test_form_as_filled_in_means_the_defaults() -> None:
    assert FoundationsForm.of().to_parameters() == FoundationsParameters()


def test_further_settings_overrule_the_form() -> None:
    form = FoundationsForm.of(["pretrain.steps=7", "model.width=64"])
    parameters = form.model_copy(update={"noise": False, "seed": 3}).to_parameters()
    assert (parameters.pretrain.steps, parameters.model.width) == (7, 64)
    assert (parameters.noise, parameters.seed) == (False, 3)
    assert parameters.pretrain.batch_size == FoundationsParameters().pretrain.batch_size


def test_unknown_and_unfit_settings_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"unknown field 'model\.wide'"):
        FoundationsForm.of(["model.wide=64"]).to_parameters()
    with pytest.raises(ParameterError, match=r"set data\.sentence_pairs=DIR"):
        FoundationsForm.of(["data.source=files", "data.translation=x"]).to_parameters()
