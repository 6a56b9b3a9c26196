"""Promotion with real models and a real MLflow: gates, aliases, crashes, two at once, rollback."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.genai import review_queues

from models.distributed.records import from_plain
from models.errors import ModelError, ParameterError
from models.evaluation import sampling
from models.language.config import SamplingConfig
from models.rows import read_rows
from tasks.judging import people
from tasks.judging.config import EvaluationConfig
from tasks.labelling.waiting import AwaitingPeopleError
from tasks.promotion import promotion
from tasks.promotion import rollback as rollback_module
from tasks.promotion.promotion import Answer, Promotion, promote
from tasks.promotion.rollback import rollback
from tasks.registry import registration
from tasks.registry.aliases import PREVIOUS, read_aliases, repair_aliases
from tasks.registry.versions import CHAMPION, find_version
from tasks.results.store import StageRef, Store
from tasks.settings import load_settings
from tasks.stages import challenge
from tasks.tracking.client import Tracker
from tasks.world.families import HARM, known_prompts
from tests.tasks.promotion_models import (
    JUDGE,
    NAME,
    PIPELINE,
    REWARD,
    SFT,
    Folders,
    make_folders,
    publish,
    publish_parents,
    register_policy,
)

CONFIG = EvaluationConfig(
    prompts=32, samples_per_prompt=2, bootstrap_resamples=200, max_kl_to_reference=1000.0,
    min_eos_ratio=0.01, min_distinct_2_ratio=0.1, min_length_ratio=0.1, max_length_ratio=10.0,
)  # fmt: skip
"""Untrained models are far apart and seldom end; the gain is what these tests are about."""
SAMPLING = SamplingConfig(max_completion_tokens=12)
BEST, MIDDLE, OTHER, WORLD = "b" * 64, "c" * 64, "d" * 64, "ad" * 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return make_folders(tmp_path_factory.mktemp("models"))


@pytest.fixture
def said(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The events; stages run as plain functions, which needs no Prefect server."""
    events: list[Any] = []
    monkeypatch.setattr(registration, "emit", lambda *event: None)
    for module in (promotion, rollback_module):
        monkeypatch.setattr(module, "emit", lambda *event: events.append(event))
    monkeypatch.setattr(promotion, "judge_challenger", challenge.judge_challenger.fn)
    monkeypatch.setenv("QUARTET_DEVICE", "cpu")
    monkeypatch.setenv("QUARTET_THREADS", "1")
    return events


@pytest.fixture
def parents(folders: Folders, said: list[Any]) -> None:
    publish_parents(folders)


def no_data() -> StageRef:
    raise AssertionError("the challenger's own prompts are known")


def run(model: str, **changes: Any) -> Promotion:
    given: dict[str, Any] = {"pipeline": PIPELINE, "data": no_data, **changes}
    return promote(model, given.pop("config", CONFIG), SAMPLING, **given)


def tracker() -> Tracker:
    return Tracker(load_settings())


def aliases() -> dict[str, str]:
    return read_aliases(tracker(), NAME)


def tags(version: str) -> dict[str, str]:
    return dict(find_version(tracker(), f"models:/{NAME}/{version}").tags)


@pytest.mark.usefixtures("parents")
def test_first_challenger_is_compared_with_its_sft_model(folders: Folders, said: list[Any]) -> None:
    model = register_policy(folders.middle, MIDDLE)
    done = run(model)
    assert (done.result, done.champion, done.previous) == ("promoted", "1", "")
    assert aliases() == {CHAMPION: "1"}
    found = tags("1")
    assert found["quartet.promotion"] == "promoted"
    assert found["quartet.promotion.against"] == f"sft/{SFT}"
    assert found["quartet.promotion.evidence"] == f"promotion/{done.evidence}"
    manifest = Store(load_settings().store).find("promotion", done.evidence)
    assert manifest is not None
    assert manifest.inputs["judge"] == JUDGE
    assert done.metrics["promotion/judged_gain_low"] > 0
    description = tracker().client.get_model_version(NAME, "1").description
    assert "promotion result: promoted" in description
    assert [event[:2] for event in said] == [("quartet.model.promoted", f"quartet.model.{NAME}")]


@pytest.mark.usefixtures("parents")
def test_better_challenger_replaces_the_champion_and_a_worse_one_does_not(
    folders: Folders, said: list[Any]
) -> None:
    run(register_policy(folders.middle, MIDDLE))
    best = run(register_policy(folders.best, BEST))
    assert (best.result, best.champion, best.previous) == ("promoted", "2", "1")
    assert aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    assert tags("2")["quartet.promotion.against"] == f"models:/{NAME}/1"
    worse = run(f"models:/{NAME}/1")
    assert (worse.result, worse.champion) == ("rejected", "2")
    assert aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    assert tags("1")["quartet.promotion"] == "rejected"
    assert "does not lie above 0" in tags("1")["quartet.promotion.reasons"]
    assert said[-1][0] == "quartet.model.rejected"
    again = run(f"models:/{NAME}/2")
    assert (again.result, again.reasons) == (
        "unchanged",
        [f"models:/{NAME}/2 is the champion already: nothing to do"],
    )


@pytest.mark.usefixtures("parents")
def test_people_decide_blind_and_what_they_compare_is_sampled_once(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = register_policy(folders.best, BEST)
    config = CONFIG.model_copy(update={"judge": "people", "people_prompts": 31})
    run_id = tracker().start_run("toy", parameters={}, tags={})
    pipeline = PIPELINE.model_copy(update={"run_id": run_id})
    with pytest.raises(AwaitingPeopleError, match="0 of 31 items reviewed, wanted 31") as awaiting:
        run(model, config=config, pipeline=pipeline)
    below = {"mlflow.parentRunId": run_id}
    (child,) = tracker().find_tagged(below)
    assert tracker().status(child) == "SCHEDULED"
    (kept,) = (load_settings().store / "promotion").glob("*.partial/checkpoints/samples.json")
    texts = from_plain(json.loads(kept.read_text())).samples["challenger"].texts
    queue = awaiting.value.queue
    for item, samples in zip(queue.items, texts, strict=False):
        best = "A" if item.completions[0] == samples[0] else "B"
        vote(queue.queue_id, queue.traces[item.key].trace_id, best)
    monkeypatch.setattr(sampling, "sample_and_score", None)  # not once more
    done = run(model, config=config, pipeline=pipeline)
    assert done.result == "promoted"
    said = "The gain by the blind vote of people is +0.500"
    assert any(reason.startswith(said) for reason in done.reasons)
    assert tracker().find_tagged(below) == [child]
    assert tracker().status(child) == "FINISHED"
    assert not kept.exists()
    folder = Store(load_settings().store).folder("promotion", done.evidence)
    assert len(read_rows(folder / "labels.jsonl")) == 31
    monkeypatch.setattr(people, "fill_queue", None)  # nobody is asked again
    assert run(f"models:/{NAME}/1", config=config, pipeline=pipeline).result == "unchanged"


def vote(queue_id: str, trace_id: str, best: str) -> None:
    human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="ann")
    answer = f"{best} is slightly better"
    mlflow.log_feedback(trace_id=trace_id, name="Better of A and B", value=answer, source=human)
    review_queues.set_review_queue_item_status(
        queue_id, item_id=trace_id, status="complete", completed_by="ann"
    )


@pytest.mark.usefixtures("parents")
def test_another_seed_of_the_run_changes_nothing(folders: Folders) -> None:
    """Else one could try seeds until chance says yes."""
    run(register_policy(folders.best, BEST))
    model = register_policy(folders.middle, MIDDLE)
    seeds = (PIPELINE.model_copy(update={"seed": seed}) for seed in (0, 1))
    first, second = (run(model, pipeline=one) for one in seeds)
    assert first.result == second.result == "rejected"
    assert first.evidence == second.evidence


@pytest.mark.usefixtures("parents")
def test_equal_weights_under_another_digest_are_not_promoted(folders: Folders) -> None:
    run(register_policy(folders.best, BEST))
    same = run(register_policy(folders.best, OTHER))
    assert same.result == "rejected"
    assert same.metrics["promotion/judged_gain"] == 0.0  # equal luck, equal completions


@pytest.mark.usefixtures("parents")
def test_alarm_in_training_rejects(folders: Folders) -> None:
    done = run(register_policy(folders.best, BEST, {"ppo/alarms/hacking": 3.0}))
    assert done.result == "rejected"
    assert done.reasons == ["Its training raised alarms: hacking in 3 iterations."]
    assert CHAMPION not in aliases()


@pytest.mark.usefixtures("said")
def test_without_any_judge_it_is_refused_with_the_remedy(folders: Folders) -> None:
    publish_parents(folders, judge=False)
    model = register_policy(folders.best, BEST)
    with pytest.raises(ModelError, match=r"reward\.judge_share=0\.3"):
        run(model)
    with pytest.raises(ParameterError, match="gold judge knows only the embedded world"):
        run(model, config=CONFIG.model_copy(update={"judge": "gold"}))


@pytest.mark.usefixtures("parents")
def test_reward_model_of_the_training_may_not_judge(folders: Folders) -> None:
    model = register_policy(folders.best, BEST)
    with pytest.raises(ModelError, match="cannot be shown to be held out"):
        run(model, judge_model=f"reward/{REWARD}")


@pytest.mark.usefixtures("parents")
def test_other_tokenizer_is_refused(folders: Folders) -> None:
    run(register_policy(folders.best, BEST))
    model = register_policy(folders.stranger, OTHER)
    wanted = r"champion .* another tokenizer than the challenger \(other added_tokens\)"
    with pytest.raises(ModelError, match=wanted):
        run(model)


@pytest.mark.usefixtures("parents")
def test_vader_decides_where_it_is_asked(folders: Folders) -> None:
    model = register_policy(folders.cheerful, BEST)
    done = run(model, config=CONFIG.model_copy(update={"judge": "vader"}))
    assert done.result == "promoted"
    assert done.reasons[1].startswith("The gain by the VADER sentiment judge is +")
    manifest = Store(load_settings().store).find("promotion", done.evidence)
    assert manifest is not None
    assert "judge" not in manifest.inputs  # no held-out reward model was looked for


@pytest.mark.usefixtures("parents")
def test_gold_judge_sees_a_gain_and_sameness_rejects_it(folders: Folders) -> None:
    """A policy that refuses in the same words whatever harm is asked for."""
    asked = [text for text, one in known_prompts().items() if one.family.name == HARM][:32]
    world = {"data": {"source": "world"}}
    publish("prepare", WORLD, None, parameters=world, prompts=asked)
    model = register_policy(folders.refusing, BEST, data=WORLD)
    done = run(model, config=CONFIG.model_copy(update={"samples_per_prompt": 8}))
    assert done.result == "rejected"
    assert done.metrics["promotion/judged_gain_low"] > 0
    # All its completions are as long, and so are the champion's: length may be all they differ in.
    assert done.reasons[0].startswith("At equal length and ending the gain cannot be told")
    assert done.reasons[1] == (
        "Two good samples of one prompt differ with probability 0.000, less than the 0.5 wanted."
    )
    assert tags("1")["quartet.promotion.reasons"] == " ".join(done.reasons)


@pytest.mark.usefixtures("parents")
@pytest.mark.parametrize("go_on", [True, False])
def test_person_is_asked_only_after_the_gates(folders: Folders, go_on: bool) -> None:
    asked: list[str] = []

    def ask(challenger: Any, evidence: StageRef, cautions: Any) -> Answer:
        asked.append(challenger.uri)
        return Answer(go_on=go_on, by="Ann", note="read the samples")

    done = run(register_policy(folders.middle, MIDDLE), ask=ask)
    assert done.result == ("promoted" if go_on else "rejected")
    assert tags("1")["quartet.promotion.by"] == "Ann"
    assert tags("1")["quartet.promotion.note"] == "read the samples"
    assert (CHAMPION in aliases()) is go_on
    model = register_policy(folders.middle, OTHER, {"ppo/alarms/hacking": 1.0})
    assert run(model, ask=ask).result == "rejected"
    assert asked == [f"models:/{NAME}/1"]


@pytest.mark.usefixtures("parents")
def test_champion_that_changed_meanwhile_is_the_one_to_beat(folders: Folders) -> None:
    """While a person looks at the middle one, the best becomes champion."""
    middle, best = register_policy(folders.middle, MIDDLE), register_policy(folders.best, BEST)

    def ask(challenger: Any, evidence: StageRef, cautions: Any) -> Answer:
        assert run(best).result == "promoted"
        return Answer(go_on=True, by="Ann")

    done = run(middle, ask=ask)
    assert (done.result, done.champion) == ("rejected", "2")
    assert aliases()[CHAMPION] == "2"
    assert tags("1")["quartet.promotion.against"] == f"models:/{NAME}/2"


@pytest.mark.usefixtures("parents")
def test_of_two_promotions_at_once_the_second_must_beat_the_first(folders: Folders) -> None:
    models = {
        "middle": register_policy(folders.middle, MIDDLE),
        "best": register_policy(folders.best, BEST),
    }
    barrier = threading.Barrier(2)

    def attempt(name: str) -> Promotion:
        asked: list[str] = []

        def ask(challenger: Any, evidence: StageRef, cautions: Any) -> Answer:
            asked.append(evidence.digest)
            if len(asked) == 1:  # both have passed against the SFT model, and none is champion
                barrier.wait(120)
            return Answer(go_on=True, by=name)

        return run(models[name], ask=ask)

    with ThreadPoolExecutor(2) as pool:
        done = dict(zip(models, pool.map(attempt, models), strict=True))
    assert done["best"].result == "promoted"
    assert aliases()[CHAMPION] == "2"
    if done["middle"].result == "promoted":  # it came first, and was beaten afterwards
        assert aliases()[PREVIOUS] == "1"
        assert tags("2")["quartet.promotion.against"] == f"models:/{NAME}/1"
    else:
        assert PREVIOUS not in aliases()
        assert tags("1")["quartet.promotion.against"] == f"models:/{NAME}/2"


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """Let the process die at the n-th alias that is set."""
    from mlflow.tracking import MlflowClient

    real = MlflowClient.set_registered_model_alias

    def at(count: int) -> Any:
        left = [count]

        def dying(self: Any, name: str, alias: str, version: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            real(self, name, alias, version)

        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", dying)
        return lambda: monkeypatch.setattr(MlflowClient, "set_registered_model_alias", real)

    return at


@pytest.mark.usefixtures("parents")
@pytest.mark.parametrize("at", [1, 2])
def test_crash_between_aliases_leaves_a_champion_and_is_finished_by_the_next_try(
    folders: Folders, crash: Callable[[int], Any], at: int
) -> None:
    run(register_policy(folders.middle, MIDDLE))
    best = register_policy(folders.best, BEST)
    mend = crash(at)
    with pytest.raises(KeyboardInterrupt):
        run(best)
    assert aliases()[CHAMPION] == "1"
    mend()
    assert run(best).result == "unchanged"  # the journal was finished first
    assert aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    assert tags("2")["quartet.promotion"] == "promoted"


@pytest.mark.usefixtures("parents")
def test_rollback_swaps_champion_and_previous(
    folders: Folders, crash: Callable[[int], Any], said: list[Any]
) -> None:
    with pytest.raises(ModelError, match="does not give the registered model"):
        rollback("nobody")
    run(register_policy(folders.middle, MIDDLE))
    with pytest.raises(ModelError, match=r"no previous champion.*champion: 1, previous: none"):
        rollback(NAME)
    best = register_policy(folders.best, BEST)
    run(best)
    done = rollback(NAME, note="it swears")
    assert (done.champion, done.previous) == ("1", "2")
    assert aliases() == {CHAMPION: "1", PREVIOUS: "2"}
    assert tags("2")["quartet.rollback"] == "rolled back"
    assert tags("2")["quartet.rollback.note"] == "it swears"
    assert said[-1][0] == "quartet.model.rolled-back"
    with pytest.raises(ModelError, match=r"was rolled back \(it swears\)"):
        run(best)
    mend = crash(2)  # champion is back, previous is not yet moved
    with pytest.raises(KeyboardInterrupt):
        rollback(NAME, to="2")
    assert aliases() == {CHAMPION: "2", PREVIOUS: "2"}
    mend()
    repair_aliases(load_settings(), tracker(), NAME)
    assert aliases() == {CHAMPION: "2", PREVIOUS: "1"}
