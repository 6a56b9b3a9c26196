"""One deployment as prefect.yaml has it: its description with what it needs, and its schedules."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

WORK_POOL = "quartet"
NEEDS = {
    "quickstart": "Needs nothing; takes 5 to 7 minutes, or seconds if all stages are finished.",
    "reviews": "Needs a folder of your own files; takes 17 minutes with English film reviews.",
    "reviews-pretrained": "Needs your own files and the model; takes 47 minutes on film reviews.",
    "hh-rlhf": "Needs the Hugging Face hub and a GPU; takes hours.",
    "improve": "Needs nothing with the simulated annotator; takes 3 minutes a round on top of SFT.",
    "foundations": "Needs nothing; takes 51 minutes on two cores.",
    "compare": "Needs two to seven pipeline runs; takes seconds.",
    "evaluate-models": "Needs models; takes 10 to 25 seconds for two models of the quickstart.",
    "benchmark": "Needs models, and a file of questions or the extra lm-eval.",
    "promote": "Needs an accepted policy; takes half a minute for one of the quickstart.",
    "ppo-again": "Needs an SFT model and a reward model; takes a minute for the quickstart's.",
    "evaluate-policy": "Needs a policy; takes 10 to 20 seconds for one of the quickstart.",
    "reward-again": "Needs an SFT model; takes half a minute for one of the quickstart.",
    "sft-again": "Needs a base model; takes half a minute for one of the quickstart.",
    "pretrain": "Needs nothing; takes 3 to 5 minutes with the quickstart.",
    "feedback-watch": "Needs nothing; takes seconds.",
    "tidy": "Needs nothing; takes seconds.",
    "end-lost-run": "Needs the id of a flow run; takes seconds.",
    "nightly-evaluation": "Needs an accepted policy; takes 10 seconds for one of the quickstart.",
}
"""What each deployment needs and how long it takes on two cores; in the order of their use."""


def deployment(
    flow: str,
    name: str,
    description: str,
    tags: list[str],
    parameters: dict[str, Any],
    schedules: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """A flow that can be started from the UI, the API or a schedule, as in prefect.yaml."""
    first, *more = description.split("\n\n")
    return {
        "name": name,
        "version": version("quartet-rlhf"),
        "description": "\n\n".join([first, NEEDS[name], *more]),
        "tags": ["quartet", *tags],
        "entrypoint": flow,
        "parameters": parameters,
        "schedules": list(schedules),
        "work_pool": {"name": WORK_POOL},
    }


def paused(slug: str, **when: Any) -> dict[str, Any]:
    """A schedule that is off until somebody turns it on."""
    return {"slug": slug, "active": False, **when}


def weekly(day: str, **more: Any) -> dict[str, Any]:
    """At two o'clock at night of a day, as iCalendar writes it."""
    when = f"FREQ=WEEKLY;BYDAY={day};BYHOUR=2;BYMINUTE=0;BYSECOND=0"
    return paused("weekly", rrule=when, timezone="UTC", **more)
