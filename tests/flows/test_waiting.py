"""What a run does where it waits for people, without a worker; with one: test_operated*.py."""

from typing import Any

import pytest
from prefect import flow

from flows import waiting
from flows.waiting import Resumption, waiting_for_people
from tasks.labelling.assignment import EVERYBODY
from tasks.labelling.items import Item
from tasks.labelling.queue import Queue, RaterQueue
from tasks.labelling.waiting import AwaitingPeopleError, refuse_missing
from tasks.run.stage_task import stage_task
from tasks.tracking.reviews import Review, ReviewTrace


def queue(answered: int) -> Queue:
    """Of two items, so many of them reviewed."""
    items = [item for item in (Item.of(f"{i}?", "ab") for i in range(2)) if item is not None]
    asks = {item.key: str(item.prompt) for item in items}
    own = RaterQueue(
        queue_id="q", name="toy evaluation 0123456789ab", page="http://mlflow/q", rater=EVERYBODY,
        reviews={f"{i}?": Review(status="complete") for i in range(answered)}, asks=asks,
    )  # fmt: skip
    traces = {key: ReviewTrace(trace_id=trace_id) for key, trace_id in asks.items()}
    return Queue(queues=[own], needed=2, items=items, traces=traces)


@pytest.mark.usefixtures("prefect_server")
def test_stage_that_waits_ends_its_task_run_as_waiting_and_raises_in_the_flow() -> None:
    states: list[tuple[str, str]] = []

    @stage_task("votes")
    def votes() -> str:
        refuse_missing(queue(1), some=True)
        return "all voted"

    votes.on_completion(lambda task, run, state: states.append((state.type, state.name)))
    votes.on_failure(lambda task, run, state: states.append((state.type, state.name)))

    @flow
    def asks() -> str:
        return waiting_for_people(votes)

    with pytest.raises(AwaitingPeopleError, match="1 of 2 items reviewed, wanted 2; review them"):
        asks()
    assert states == [("COMPLETED", "Waiting")]


def test_run_is_suspended_until_a_person_has_it_go_on_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each suspension is a question of its own, and a run that starts again finds its answers."""
    answers = {1: True, 2: False, 3: True}
    answered, keys, switched, looks = 0, [], [], []

    def suspend(*, wait_for_input: Any, timeout: int, key: str) -> Resumption:
        keys.append(key)
        assert "0 of 2" in wait_for_input._description or "1 of 2" in wait_for_input._description
        assert "http://mlflow/q" in wait_for_input._description
        number = int(key.rpartition("-")[2])
        if number > len(answers):
            raise KeyboardInterrupt
        return Resumption(go_on=answers[number])

    def stages() -> str:
        looks.append(answered)
        refuse_missing(queue(answered), some=bool(answered))
        return "went on"

    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "toy")
    monkeypatch.setattr(waiting, "suspend_flow_run", suspend)
    monkeypatch.setattr(waiting, "_switch_watch", lambda *, on: switched.append(on))
    with pytest.raises(KeyboardInterrupt):
        waiting_for_people(stages)  # nothing is answered, whatever anybody says
    assert keys == [f"people-0123456789ab-{number}" for number in (1, 2, 3, 4)]
    answered, keys = 1, []
    assert waiting_for_people(stages) == "went on"
    assert (looks, keys) == ([0, 1, 1], ["people-0123456789ab-1"])
    assert switched == [True, True]
    with pytest.raises(AwaitingPeopleError):  # another run
        stages()
