"""Names of runs: a person's are kept, Prefect's are replaced, and what differs comes first."""

import re
from pathlib import Path

import coolname
import prefect
import pytest

from flows.forms import RunForm
from flows.names import DIALOG, is_from_prefect, name_changes, name_of
from models.errors import ParameterError

RUN_ID = "f9bd1b52-0000"


def named(*settings: str, flow: str = "", typed: str = "", now: str = "crimson-fox") -> str:
    form = RunForm.of("quickstart", settings).called(typed, "")
    return name_of(form, flow=flow, run_id=RUN_ID, typed=form.name, now=now)


def test_name_begins_with_what_differs_from_the_preset() -> None:
    assert named("ppo.kl_coef=0.16", "ppo.iterations=30") == "kl0.16-it30 quickstart #f9bd"
    assert named() == "quickstart #f9bd"
    assert named("ppo.kl_coef=0.16", flow="ppo") == "ppo kl0.16 quickstart #f9bd"
    assert name_of(None, flow="compare", run_id=RUN_ID, typed="", now="") == "compare #f9bd"


def test_name_is_without_changes_where_the_form_is_refused() -> None:
    assert named("pretrain.block_tokens=4096") == "quickstart #f9bd"


def test_changes_are_short_in_the_order_of_their_use_and_at_most_three() -> None:
    many = {"seed": 1, "ppo.gae_lambda": 0.9, "ppo.kl_coef": 0.08, "ppo.actor_learning_rate": 1e-5}
    assert name_changes(many) == "kl0.08-lr1e-5-gae_lambda=0.9+1"
    assert name_changes({"pretrain.steps": 1_000_000}) == "steps1e6"
    source = {"base.source": "HuggingFaceTB/SmolLM2-135M@main", "ppo.whiten": False}
    assert name_changes(source) == "base=SmolLM2-135M_mai-whiten=false"
    assert name_changes({"ppo.lora": None}) == "lora=off"


@pytest.mark.parametrize(
    "name",
    [
        "my best",
        "high-kl",
        "lambda95-test",
        "alpha-vega-kl",
        "beta",
        "quickstart #f9bd",
        "Small-GPT2",
        "fox",
        "",
    ],
)
def test_name_that_a_person_may_have_typed_is_kept(name: str) -> None:
    assert not is_from_prefect(name)
    assert named(now=name) == (name or "quickstart #f9bd")
    assert named(now=name, typed=" typed here ") == "typed here"


def test_names_that_prefect_makes_up_are_known() -> None:
    assert all(is_from_prefect(coolname.generate_slug(2)) for _ in range(200))
    pages = Path(str(prefect.__file__)).parent / "server" / "ui-v2" / "assets"
    text = "".join(one.read_text("utf-8") for one in pages.glob("deployment_._id.run-*.js"))
    listed = "[" + ",".join(f"`{word}`" for word in DIALOG.split("|")) + "]"
    assert listed in text
    animals = re.search(r"`(Aardvark\.[^`]+)`", text)
    assert animals
    short = [animal for animal in animals[1].split(".") if len(animal) <= 6]
    assert len(short) > 200
    assert all(is_from_prefect(f"Tasty-{animal}") for animal in short)
    for name in ("nu613-palamar", "lambda95-lyrae", "alpha-canis-majoris-vector", "xi4-vega-k"):
        assert is_from_prefect(name), name


@pytest.mark.parametrize("name", ["two\nlines", "x" * 101])
def test_name_that_no_page_can_show_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="name: got"):
        RunForm.of("quickstart").called(name, "")
