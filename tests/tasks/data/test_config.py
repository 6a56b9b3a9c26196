"""What a data configuration refuses before anything is read."""

import pytest
from pydantic import ValidationError

from tasks.data.config import DataConfig


def test_config_default_is_the_world() -> None:
    assert DataConfig().source == "world"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": "folder"}, ("source 'folder'", "empty", "wanted", "data.folder=")),
        ({"source": "sources"}, ("source 'sources'", "empty", "wanted", "data.preferences=")),
        ({"folder": "reviews"}, ("'reviews'", "'world'", "data.source=folder")),
        (
            {"source": "sources", "preferences": "a/b", "folder": "reviews"},
            ("'reviews'", "'sources'", "data.source=folder"),
        ),
        (
            {"source": "folder", "folder": ".", "corpus": "a/b"},
            ("corpus", "'folder'", "data.source=sources"),
        ),
    ],
)
def test_config_refuses_incomplete_source(values: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        DataConfig.model_validate(values)
    for word in words:
        assert word in str(caught.value)


def test_config_takes_named_sources_where_a_preset_names_the_folder_it_is_run_in() -> None:
    DataConfig(source="sources", preferences="a/b", folder=".")


@pytest.mark.parametrize("fraction", [0.0, 0.51, -0.1])
def test_config_refuses_heldout_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValidationError, match="heldout_fraction"):
        DataConfig(heldout_fraction=fraction)


def test_config_every_field_has_title_and_description() -> None:
    for name, field in DataConfig.model_fields.items():
        assert field.title, name
        assert field.description, name


def test_config_schema_fills_in_the_world() -> None:
    assert "default" in DataConfig.model_json_schema()["properties"]["world"]
