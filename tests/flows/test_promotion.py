"""The flow of a promotion: its form, a real run on tiny models, the question, the commands."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from prefect.utilities.callables import parameter_schema
from typer.testing import CliRunner

from flows import lifecycle
from flows.cli.registry import promote, rollback
from flows.lifecycle import Approval, ask_before_promotion
from flows.parameters import list_presets, load_preset
from flows.promotion import PromotionFields, PromotionForm, promote_flow
from models.errors import ModelError, ParameterError
from tasks.judging.config import EvaluationConfig
from tasks.registry.versions import find_version
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.recording import REPORT, page_folder
from tests.tasks.promotion_models import (
    NAME,
    Folders,
    make_folders,
    publish_evaluation,
    publish_parents,
    register_policy,
)

GATES = {
    "prompts": 32, "samples_per_prompt": 2, "bootstrap_resamples": 200, "min_eos_ratio": 0.01,
    "max_kl_to_reference": 1000.0, "min_distinct_2_ratio": 0.1, "min_length_ratio": 0.1,
    "max_length_ratio": 10.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return make_folders(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("preset", list_presets())
def test_form_means_the_preset_and_the_gates_own_values(preset: str) -> None:
    form = PromotionForm.of(preset)
    assert form.to_parameters() == load_preset(preset)
    gates = EvaluationConfig().model_dump(include=set(PromotionFields.model_fields))
    assert form.promotion.model_dump() == gates
    assert form.approval is False


def test_further_settings_are_gates_too_or_refused() -> None:
    form = PromotionForm.of("quickstart", ["evaluate.prompts=64", "evaluate.endpoint.model=m"])
    gates = form.gates()
    assert (gates.prompts, gates.endpoint.model) == (64, "m")
    assert gates.samples_per_prompt == form.promotion.samples_per_prompt
    with pytest.raises(ParameterError, match=r"evaluate.judges is no setting of a promotion"):
        PromotionForm.of("quickstart", ['evaluate.judges=["vader"]']).gates()
    with pytest.raises(ParameterError, match=r"prompts"):
        PromotionForm.of("quickstart", ["evaluate.prompts=0"]).gates()


def test_form_has_only_plain_required_fields_with_titles() -> None:
    definitions = parameter_schema(promote_flow).definitions
    for name, optional in (("PromotionForm", {"name", "note"}), ("PromotionFields", set())):
        definition = definitions[name]
        assert set(definition["properties"]) - set(definition["required"]) == optional, name
    fields = definitions["PromotionFields"]["properties"]
    assert set(fields) < set(EvaluationConfig.model_fields)
    for name, field in fields.items():
        assert field["title"], name
        assert field["description"], name
        assert field["type"] in ("string", "integer", "number"), name


@pytest.mark.usefixtures("prefect_server", "home")
def test_flow_promotes_and_the_commands_say_so(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_DEVICE", "cpu")
    monkeypatch.setenv("QUARTET_THREADS", "1")
    publish_parents(folders)
    form = PromotionForm.of("quickstart", ["sampling.max_completion_tokens=12"])
    form = form.model_copy(update={"promotion": form.promotion.model_copy(update=GATES)})
    first = promote_flow(register_policy(folders.middle, "c" * 64), form)
    second = promote_flow(register_policy(folders.best, "b" * 64), form)
    assert [one.result for one in (first, second)] == ["promoted", "promoted"]
    run_id = find_version(tracker(), f"models:/{NAME}@champion").tags["quartet.promotion.run"]
    assert tracker().status(run_id) == "FINISHED"
    for digest in ("c" * 64, "b" * 64):
        publish_evaluation(digest, digest, 0.1 if digest[0] == "b" else 0.05)
    app = typer.Typer()
    app.command("promote")(promote)
    app.command("rollback")(rollback)
    told = CliRunner().invoke(app, ["promote", NAME])
    assert told.exit_code == 0, told.output
    assert f"models:/{NAME}/2 is the champion already" in told.output
    told = CliRunner().invoke(app, ["rollback", NAME, "--note", "it swears"])
    assert f"champion of {NAME} is version 1 again; version 2 is now previous" in told.output
    told = CliRunner().invoke(app, ["rollback", NAME, "--note", "it swears"])
    assert told.exit_code == 0, told.output
    assert "version 1 is champion already: nothing to do" in told.output
    told = CliRunner().invoke(app, ["promote", NAME])
    assert f"models:/{NAME}/1 is the best accepted version: accepted, gold" in told.output
    assert f"models:/{NAME}/1 is the champion already" in told.output
    with pytest.raises(ModelError, match=r"was rolled back \(it swears\)"):
        CliRunner().invoke(app, ["promote", f"models:/{NAME}/2"], catch_exceptions=False)


@pytest.mark.parametrize("go_on", [True, False])
def test_question_shows_the_report_and_the_answer_is_recorded(
    home: Path, monkeypatch: pytest.MonkeyPatch, go_on: bool
) -> None:
    """Suspending needs a deployment and a worker; here somebody answers at once."""
    asked: dict[str, Any] = {}

    def answer(*, wait_for_input: Any, timeout: int, key: str) -> Approval:
        asked.update(key=key, question=wait_for_input._description)
        return Approval(approve=go_on, your_name="Ann", note="read it")

    page = page_folder(home, "promotion", "e" * 64)
    page.mkdir(parents=True)
    (page / REPORT).write_text("The report.")
    monkeypatch.setattr(lifecycle, "suspend_flow_run", answer)
    monkeypatch.setattr(lifecycle, "votes_page", lambda ref: f"http://m/{ref.digest[:2]}" * go_on)
    run_id = tracker().start_run("promote", parameters={}, tags={})
    pipeline = PipelineRun(name="p", preset="quickstart", seed=0, run_id=run_id)
    evidence = StageRef(stage="promotion", digest="e" * 64)
    caution = "Caution: 35% shorter than the champion's."
    challenger = SimpleNamespace(uri=f"models:/{NAME}/2")
    got = ask_before_promotion(pipeline, cast(Any, challenger), evidence, [caution])
    assert (got.go_on, got.by, got.note) == (go_on, "Ann", "read it")
    assert asked["key"] == "approval-promotion-eeeeeeeeeeee"
    assert asked["question"].index("35% shorter") < asked["question"].index("The report.")
    assert ("[How people voted](http://m/ee)" in asked["question"]) is go_on
    tags = tracker().tags(run_id)
    assert tags["approval.promotion"] == ("approved" if go_on else "refused")
    assert tags["approval.promotion.note"] == "read it"


def tracker() -> Tracker:
    return Tracker(load_settings())
