"""Promotion in a loop: a policy that was decided on is not put up again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.promotion.promotion import Promotion
from tasks.promotion.rounds import promote_once
from tasks.registry.versions import PROMOTION, find_version, set_tags
from tasks.results.store import StageRef
from tasks.run.planning import planned
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tests.tasks.promotion_models import NAME, PIPELINE, make_folders, register_policy

POLICY = StageRef(stage="ppo", digest="c" * 64)


@pytest.mark.usefixtures("home")
def test_policy_is_put_up_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_up: list[str] = []

    def promote(result: str, *, cut: bool = False) -> Callable[[str], Promotion]:
        def run(uri: str) -> Promotion:
            put_up.append(uri)
            tracker = Tracker(load_settings())
            said = "promoting" if cut else result
            set_tags(tracker, find_version(tracker, uri), {PROMOTION: said})
            if cut:
                raise ConnectionError("killed")
            return Promotion(result=result, name=NAME, champion="1", previous="", reasons=[])  # type: ignore[arg-type]

        return run

    assert promote_once(POLICY, PIPELINE, promote("promoted")) == ""
    assert "quartet sync" in caplog.text  # it is not registered
    (tmp_path / "models").mkdir()
    register_policy(make_folders(tmp_path / "models").best, POLICY.digest)
    with planned():
        assert promote_once(POLICY, PIPELINE, promote("promoted")) == ""
    assert put_up == []
    with pytest.raises(ConnectionError):
        promote_once(POLICY, PIPELINE, promote("promoted", cut=True))
    assert promote_once(POLICY, PIPELINE, promote("rejected")) == "rejected"
    assert put_up == [f"models:/{NAME}/1"] * 2  # what was cut off is finished
    assert promote_once(POLICY, PIPELINE, promote("promoted")) == "rejected"
    with planned():
        assert promote_once(POLICY, PIPELINE, promote("promoted")) == "rejected"
    assert len(put_up) == 2
