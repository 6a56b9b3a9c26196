"""Stages are tried again after trouble of the network and after nothing else."""

from collections.abc import Callable

import pytest
from prefect import flow

from models.errors import DivergedError, QuartetError
from tasks.run import stage_task as module
from tasks.run.stage_task import stage_task


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_AFTER_SECONDS", (0, 0))


def _in_a_flow(stage: Callable[[], object]) -> object:
    @flow(name="one-stage")
    def one_stage() -> object:
        return stage()

    return one_stage()


def _wrapped() -> QuartetError:
    error = QuartetError("the hub does not answer")
    error.__cause__ = ConnectionError("refused")
    return error


@pytest.mark.parametrize("error", [ConnectionError("refused"), _wrapped()])
def test_stage_is_tried_again_when_the_network_failed(
    prefect_server: str, error: Exception
) -> None:
    calls = []

    @stage_task("shaky")
    def shaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise error
        return "done"

    assert _in_a_flow(shaky) == "done"
    assert len(calls) == 3


@pytest.mark.parametrize("error", [DivergedError("loss is nan"), ValueError("wrong")])
def test_stage_is_not_tried_again_when_it_failed_itself(
    prefect_server: str, error: Exception
) -> None:
    calls = []

    @stage_task("broken")
    def broken() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        _in_a_flow(broken)
    assert len(calls) == 1
