"""The stage that evaluates any models: what it publishes, when it is reused, what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.genai import review_queues

from models.errors import DataError, ParameterError
from models.evaluation.result import read_result
from models.language.config import SamplingConfig
from models.rows import read_rows, write_rows
from tasks.judging.config import EvaluateModelsConfig
from tasks.labelling.items import Item
from tasks.labelling.waiting import AwaitingPeopleError
from tasks.reports.evaluation import metric_label
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec, report_text
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.stages.evaluate_models import evaluate_models
from tasks.tracking.client import Tracker

WORDS = "the cat sat on the mat and slept all day. what a wonderful dog ran home over the hill."
SAMPLING = SamplingConfig(max_completion_tokens=6)
SMALL: dict[str, Any] = {"prompts": 4, "samples_per_prompt": 2, "bootstrap_resamples": 100}
Make = Callable[..., StageRef]


@pytest.fixture
def pipeline(home: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineRun:
    """A parent run in an empty home folder."""
    monkeypatch.setenv("QUARTET_DEVICE", "cpu")
    run_id = Tracker(load_settings()).start_run("toy", parameters={}, tags={})
    return PipelineRun(name="toy", preset="toy", seed=0, run_id=run_id)


@pytest.fixture
def model(pipeline: PipelineRun, tmp_path: Path) -> Make:
    """Publish an untrained model."""
    from models.families.config import ArchitectureConfig
    from models.families.networks import build_model
    from models.language.config import TokenizerConfig
    from models.language.folders import load_tokenizer, new_reward_model, save_model
    from models.language.tokenizer import train_tokenizer

    write_rows(tmp_path / "corpus.jsonl", [{"text": WORDS}] * 4)
    train_tokenizer(
        corpus=tmp_path / "corpus.jsonl", config=TokenizerConfig(vocab_size=320), context=48,
        out=tmp_path / "tokenizer",
    )  # fmt: skip

    def make(stage: str, seed: int) -> StageRef:
        def learn(work: Workspace) -> dict[str, float]:
            tokenizer = load_tokenizer(tmp_path / "tokenizer")
            architecture = ArchitectureConfig(layers=1, width=16, heads=2, context=48)
            built = build_model(architecture, tokenizer, seed=seed)
            save_model(built, tokenizer, work.out / "model")
            if stage == "reward":
                save_model(
                    new_reward_model(work.out / "model", seed=seed), tokenizer, work.out / "model"
                )
            return {}

        spec = StageSpec(name=stage, module="models.rows", parameters={"seed": seed})
        return run_stage(spec, pipeline, learn)

    return make


@pytest.fixture
def data(pipeline: PipelineRun) -> StageRef:
    """Publish held-out rows."""

    def learn(work: Workspace) -> dict[str, float]:
        prompts = [
            {"prompt": f"{word} the"} for word in ["the", "cat", "sat", "on", "mat", "slept"]
        ]
        write_rows(work.out / "prompts_heldout.jsonl", [*prompts, prompts[0]])
        write_rows(work.out / "corpus_heldout.jsonl", [{"text": "the cat ran home"}])
        shown = [{"prompt": "the the", "completion": "cat"}, {"prompt": "no", "completion": "dog"}]
        write_rows(work.out / "demonstrations_heldout.jsonl", shown)
        return {}

    return run_stage(
        StageSpec(name="prepare", module="models.rows", parameters={}), pipeline, learn
    )


@pytest.fixture
def evaluated(pipeline: PipelineRun) -> Callable[..., tuple[StageRef, Path]]:
    """Run the stage."""

    def run(models: dict[str, StageRef], **given: Any) -> tuple[StageRef, Path]:
        told = {name: given.pop(name) for name in list(given) if name in
                EvaluateModelsConfig.model_fields}  # fmt: skip
        config = EvaluateModelsConfig.model_validate(SMALL | told)
        ref = evaluate_models.fn(config, SAMPLING, pipeline=pipeline, models=models, **given)
        return ref, Store(load_settings().store).folder(ref.stage, ref.digest)

    return run


def test_two_models_are_measured_judged_and_published(
    model: Make, data: StageRef, evaluated: Any, pipeline: PipelineRun
) -> None:
    ppo, sft, reward = model("ppo", 1), model("sft", 0), model("reward", 5)
    given = {"data": data, "reference": sft, "reward": reward, "judges": ["reward", "vader"]}
    ref, folder = evaluated({"sft": sft, "ppo@new": ppo}, **given)
    result = read_result(folder)
    assert list(result.measures) == ["ppo@new", "sft"]
    assert result.reference == "sft"
    assert result.measures["sft"]["kl_to_reference"].mean == 0.0
    measured = set(result.measures["ppo@new"])
    wanted = {"score", "vader_score", "kl_to_reference", "length", "eos_rate", "distinct_2"}
    assert wanted <= measured
    assert {"repetition", "perplexity_texts", "bits_per_byte_demonstrations"} <= measured
    ((row, column, rate),) = result.win_rates["reward"].pairs()
    assert (row, column, *result.win_rates["reward"].prompts.values()) == ("ppo@new", "sft", 4)
    assert result.decided is None
    # The published samples say the same: all pairs of samples of a prompt, ties half.
    rows = read_rows(folder / "samples.jsonl")
    assert len(rows) == 2 * 4 * 2
    news, olds = ([row for row in rows if row["model"] == name] for name in ("ppo@new", "sft"))
    points = [
        (one["scores"]["reward"] > other["scores"]["reward"])
        + 0.5 * (one["scores"]["reward"] == other["scores"]["reward"])
        for one in news for other in olds if one["prompt"] == other["prompt"]
    ]  # fmt: skip
    assert rate.mean == pytest.approx(sum(points) / len(points))
    assert ref.metrics["reward_win_rate/ppo-new over sft"] == pytest.approx(rate.mean)
    report = report_text(ref)
    assert "Win rates under the reward model" in report
    assert "KL is to sft" in report
    parent = Tracker(load_settings()).client.get_run(pipeline.run_id).data
    assert parent.metrics["length/sft"] == ref.metrics["length/sft"]
    assert parent.tags["mlflow.note.content"] == report[:8000]


def test_models_in_another_order_are_the_same_evaluation(
    model: Make, data: StageRef, evaluated: Any
) -> None:
    first, second, reward = model("sft", 0), model("ppo", 1), model("reward", 5)
    one, _ = evaluated({"a": first, "b": second}, data=data, judges=["vader"])
    other, _ = evaluated({"b": second, "a": first}, data=data, judges=["vader"], reward=reward)
    assert other.digest == one.digest  # and a reward model that nobody asks does not count
    assert other.reused
    swapped, _ = evaluated({"a": second, "b": first}, data=data, judges=["vader"])
    assert swapped.digest != one.digest


def test_how_an_endpoint_is_reached_does_not_count() -> None:
    from tasks.stages.evaluate_models import _what_counts

    def counts(**endpoint: Any) -> dict[str, Any]:
        told = {"url": "http://h/v1", "model": "m"} | endpoint
        config = EvaluateModelsConfig.model_validate({"judges": ["endpoint"], "endpoint": told})
        return _what_counts(config)

    assert counts() == counts(concurrency=9, retries=0, timeout_seconds=3, api_key_env="OTHER")
    for change in ({"url": "http://i/v1"}, {"model": "n"}, {"criteria": "c"}, {"prompts": 5}):
        assert counts() != counts(**change)
    assert "endpoint" not in _what_counts(EvaluateModelsConfig())


def test_equal_models_win_half_of_the_time(model: Make, data: StageRef, evaluated: Any) -> None:
    sft = model("sft", 0)
    _, folder = evaluated(
        {"one": sft, "two": sft}, data=data, reward=model("reward", 5), judges=["reward"]
    )
    result = read_result(folder)
    ((_, _, rate),) = result.win_rates["reward"].pairs()
    assert (rate.mean, rate.low, rate.high) == (0.5, 0.5, 0.5)
    assert repr(result.measures["one"]) == repr(result.measures["two"])  # NaN is NaN


def test_own_prompts_with_references_from_a_file(
    model: Make, evaluated: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": f"{word} the", "completion": "the cat"} for word in ("on", "all")]
    write_rows(tmp_path / "mine.jsonl", rows)
    given = {"prompts_file": tmp_path / "mine.jsonl", "judges": [], "references": True}
    ref, folder = evaluated({"sft": model("sft", 0)}, **given)
    measures = read_result(folder).measures["sft"]
    assert {"bleu", "rougeL", "perplexity_demonstrations"} <= set(measures)
    assert "perplexity_texts" not in measures
    (tmp_path / "mine.jsonl").rename(tmp_path / "moved.jsonl")
    again, _ = evaluated(
        {"sft": model("sft", 0)}, **given | {"prompts_file": tmp_path / "moved.jsonl"}
    )
    assert again.digest == ref.digest  # the content counts, not where it lies
    write_rows(tmp_path / "other.jsonl", [{"prompt": "the"}, *rows])
    with pytest.raises(DataError, match="1 of 3 prompts have none"):
        evaluated({"sft": model("sft", 0)}, **given | {"prompts_file": tmp_path / "other.jsonl"})


def test_what_no_evaluation_can_be_made_of_is_refused(
    model: Make, data: StageRef, evaluated: Any, tmp_path: Path
) -> None:
    sft = model("sft", 0)
    with pytest.raises(ParameterError, match="at least one"):
        evaluated({}, data=data)
    with pytest.raises(ParameterError, match="different names"):
        evaluated({"a@b": sft, "a:b": sft}, data=data, judges=[])
    with pytest.raises(ParameterError, match="got neither"):
        evaluated({"a": sft}, judges=[])
    with pytest.raises(ParameterError, match="got both"):
        evaluated({"a": sft}, judges=[], data=data, prompts_file=tmp_path / "x.jsonl")
    with pytest.raises(ParameterError, match="no reward model was given"):
        evaluated({"a": sft}, data=data)


def test_metric_labels_have_only_letters_that_mlflow_takes() -> None:
    assert metric_label("models:/quickstart-sft@champion") == "models-quickstart-sft-champion"


def test_people_compare_every_two_models(
    model: Make, data: StageRef, evaluated: Any, pipeline: PipelineRun
) -> None:
    """A bot that always likes what is shown first: by hand from the samples and their order."""
    models = {name: model("sft", seed) for seed, name in enumerate("abc")}
    asked = {"data": data, "judges": ["people"], "people_prompts": 2, "perplexity": False}
    with pytest.raises(AwaitingPeopleError) as awaiting:
        evaluated(models, **asked)
    queue = awaiting.value.queue
    human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="ann")
    for trace in queue.traces.values():
        mlflow.log_feedback(
            trace_id=trace.trace_id, name="Better of A and B", value="A is better", source=human
        )
        review_queues.set_review_queue_item_status(
            queue.queue_id, item_id=trace.trace_id, status="complete", completed_by="ann"
        )
    ref, folder = evaluated(models, **asked)
    texts: dict[str, dict[str, str]] = {}
    for row in read_rows(folder / "samples.jsonl"):
        if row["sample"] == 0:
            texts.setdefault(row["model"], {})[row["prompt"]] = row["completion"]
    for one, other in ("ab", "ac", "bc"):
        wins = []
        for prompt in list(texts[one])[:2]:
            item = Item.of(prompt, (texts[one][prompt], texts[other][prompt]))
            wins.append(0.5 if item is None else item.completions[0] == texts[one][prompt])
        assert ref.metrics[f"people_win_rate/{one} over {other}"] == sum(wins) / 2
    assert ref.metrics["people_answers/pairs"] == 6
    assert ref.metrics["people_answers/prefers_first"] == 1
    assert ref.metrics["people_answers/judged"] == len(queue.items)
    again, _ = evaluated(models, **asked)
    assert again.reused
