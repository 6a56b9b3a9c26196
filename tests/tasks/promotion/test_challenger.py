"""Which version a promotion is about, and what is refused before it starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelError, ParameterError
from tasks.judging.config import EvaluationConfig
from tasks.judging.judges import Decider
from tasks.promotion import challenger
from tasks.promotion.challenger import find_challenger, refuse_too_few
from tasks.registry.versions import ModelVersion
from tests.tasks.promotion.cut_off import MemoryRegistry
from tests.tasks.promotion_models import publish, publish_evaluation

POLICY = ModelVersion(
    name="toy",
    version="1",
    source="",
    tags={"quartet.stage": "ppo", "quartet.digest": "1" * 64},
)


@pytest.fixture
def mlflow(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryRegistry:
    """A policy of three versions and a reward model."""
    registry = MemoryRegistry()
    monkeypatch.setattr("tasks.tracking.client.Tracker.client", property(lambda _: registry))
    (tmp_path / "model").mkdir()
    for name, stage, digests in (("toy", "ppo", "123"), ("toy-reward", "reward", "4")):
        registry.create_registered_model(name)
        for digest in digests:
            tags = {"quartet.stage": stage, "quartet.digest": digest * 64}
            registry.create_model_version(name, f"models:/m-{digest}", tags=tags)
            publish(stage, digest * 64, tmp_path / "model")
    return registry


def test_name_alone_is_the_best_accepted_version_and_says_why(mlflow: MemoryRegistry) -> None:
    publish_evaluation("1" * 64, "a" * 64, 0.2)
    publish_evaluation("2" * 64, "b" * 64, 0.1)
    publish_evaluation("3" * 64, "c" * 64, 0.3, accepted=False)
    for name in ("toy", "models:/toy"):
        version, why = find_challenger(name)
        assert version.uri == "models:/toy/1"
        assert why == (
            "models:/toy/1 is the best accepted version: "
            "accepted, gold +0.225 [+0.200, +0.250], KL 1.6"
        )
    assert find_challenger("models:/toy/3")[0].version == "3"  # a promotion judges for itself
    assert find_challenger("models:/toy@challenger")[0].version == "1"


def test_name_without_an_accepted_version_is_one_line(mlflow: MemoryRegistry) -> None:
    publish_evaluation("2" * 64, "b" * 64, -0.1, accepted=False)
    wanted = (
        r"toy has no accepted version to promote \(version 3: no verdict; version 2: rejected, "
        r"gold -0\.075 .*; version 1: no verdict\); .* quartet promote models:/toy/3"
    )
    with pytest.raises(ModelError, match=wanted) as error:
        find_challenger("toy")
    assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="result of stage reward, wanted a policy"):
        find_challenger("toy-reward")


def test_too_few_prompts_to_pass_are_refused_with_enough(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gates(prompts: int, samples: int, judge: Decider = "auto", **more: Any) -> EvaluationConfig:
        return EvaluationConfig(prompts=prompts, samples_per_prompt=samples, judge=judge, **more)

    with pytest.raises(ParameterError, match=r"promotion.prompts is 29, .* at least 30"):
        refuse_too_few(POLICY, gates(29, 4, "judge"))
    few = {"url": "http://127.0.0.1:1/v1", "model": "m", "prompts": 20}
    with pytest.raises(ParameterError, match=r"promotion.endpoint.prompts is 20, .* at least 30"):
        refuse_too_few(POLICY, gates(64, 2, "endpoint", endpoint=few))
    with pytest.raises(ParameterError, match=r"promotion.samples_per_prompt is 1, .* at least 2"):
        refuse_too_few(POLICY, gates(512, 1, "gold"))
    with pytest.raises(
        ParameterError, match=r"promotion.min_matched_completions is 100, .* give 80"
    ):
        refuse_too_few(POLICY, gates(40, 2, "gold"))
    refuse_too_few(POLICY, gates(50, 2, "gold"))
    refuse_too_few(POLICY, gates(32, 1))  # nobody tells which are good, as far as is known
    matched = {"matched_completions": 59.0, "prompts": 32.0, "samples_per_prompt": 4.0}
    measured = {f"final/{name}": value for name, value in matched.items()}
    monkeypatch.setattr(challenger, "_evaluated", lambda version: measured)
    with pytest.raises(ParameterError, match=r"about 59 good .* as models:/toy/1 was evaluated"):
        refuse_too_few(POLICY, gates(32, 4))
    refuse_too_few(replace(POLICY, version="2"), gates(66, 4))
    refuse_too_few(POLICY, gates(32, 4, "judge"))  # nobody tells which are good
