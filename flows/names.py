"""Names of runs: what a person typed, else what differs from the preset, the preset and an id.

MLflow's list cuts a name after 18 characters, so what differs comes first. Two runs may have one
name; only ids are unique, so nothing may read anything from a name. Models of an evaluation have
labels: LABEL=NAME, or one made of the name.
"""

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import coolname
import prefect
from coolname.loader import load_config

from flows.forms import FlowForm
from flows.parameters import changed_from_preset
from models.errors import ParameterError

SHORT = {
    "ppo.kl_coef": "kl",
    "ppo.iterations": "it",
    "ppo.actor_learning_rate": "lr",
    "ppo.ppo_epochs": "ep",
    "ppo.rollouts_per_iteration": "ro",
    "sampling.temperature": "temp",
    "sampling.max_completion_tokens": "tok",
    "base.source": "base",
    "data.folder": "data",
    "pretrain.steps": "steps",
    "pretrain.learning_rate": "pretrain_lr",
    "sft.epochs": "sft_ep",
    "sft.learning_rate": "sft_lr",
    "reward.epochs": "rm_ep",
    "reward.learning_rate": "rm_lr",
    "evaluate.prompts": "eval",
    "seed": "seed",
}
"""How the fields that people change most are called in a name, in the order in which they come."""

MOST = 3
"""Fields that a name tells; more are counted."""

LONGEST_VALUE = 16

DIALOG = (
    "Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic|"
    "Practical|Ergonomic|Handcrafted|Tasty|Handmade|Incredible"
)
"""Prefect's dialog fills a run's name in with one of these and a short animal: Tasty-Otter."""

GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|"
    "tau|upsilon|phi|chi|psi|omega"
)
"""Its classic pages fill it in with one of these, a number, and a star: nu613-palamar."""


def name_of(form: FlowForm | None, *, flow: str, run_id: str, typed: str, now: str) -> str:
    """Name a flow run; one that is retried or resumed keeps its name.

    Args:
        form: Of the run; None where its flow has none.
        flow: Name of a flow that runs a part of the pipeline; empty for the whole.
        run_id: Prefect's.
        typed: What a person typed into the form or the command line.
        now: The name that the flow run has.
    """
    if typed:
        return typed
    if now and not is_from_prefect(now):
        return now  # typed into Prefect's dialog, or given here before
    changes, preset = "", ""
    if form is not None:
        preset = form.preset
        with contextlib.suppress(ParameterError):  # which ends the run in its first second
            changes = name_changes(changed_from_preset(form.to_parameters()))
    words = (flow, changes, preset if preset != flow else "", f"#{run_id[:4]}")
    return " ".join(filter(None, words))


def name_changes(changes: Mapping[str, Any]) -> str:
    """What differs from a preset in one word: {"ppo.kl_coef": 0.16, "seed": 1} is kl0.16-seed1."""
    order = {field: place for place, field in enumerate(SHORT)}
    fields = sorted(changes, key=lambda field: order.get(field, order["seed"] - 0.5))
    words = [_word(field, changes[field]) for field in fields[:MOST]]
    more = f"+{len(fields) - MOST}" if len(fields) > MOST else ""
    return "-".join(words) + more


def _word(field: str, value: Any) -> str:
    name = SHORT.get(field, field.rpartition(".")[2])
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = re.sub(r"e([+-])0*", r"e\1", f"{value:.6g}").replace("e+", "e")
        return f"{name}{text}" if field in SHORT else f"{name}={text}"
    text = "off" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = re.sub(r"[^\w.+-]+", "_", Path(text).name).strip("_")
    return f"{name}={text[:LONGEST_VALUE]}"


def is_from_prefect(name: str) -> bool:
    """Whether Prefect made a name up: its server (crimson-fox), or a dialog for a run."""
    first, _, second = name.partition("-")
    if re.fullmatch(rf"({DIALOG})-[A-Z][a-zñ]{{1,5}}", name):
        return True
    if re.fullmatch(rf"({GREEK})\d*", first):
        stars, ends = _dialog_words()
        star, _, end = second.rpartition("-")
        return second in stars or (star in stars and end in ends)
    words = _server_words()
    return first in words["adj_any"] and second in words["subj"]


@functools.cache
def _dialog_words() -> tuple[set[str], set[str]]:
    """What may follow the Greek letter; nothing where Prefect is installed without its pages.

    People call runs lambda95-test, so the letter alone says nothing.
    """
    pages = Path(str(prefect.__file__)).parent / "server" / "ui" / "assets"
    text = "".join(one.read_text(encoding="utf-8") for one in pages.glob("index-*.js"))
    lists = (re.search(rf"`({start}[^`]+)`", text) for start in (r"andromedae\.", r"a\.b\.c\."))
    stars, ends = (set(found[1].split(".")) - {""} if found else set() for found in lists)
    return stars, ends


@functools.cache
def _server_words() -> dict[str, set[str]]:
    """What the server chooses both words of a name from."""
    config: Mapping[str, Any] = load_config(str(Path(str(coolname.__file__)).parent / "data"))

    def words(name: str) -> set[str]:
        inner = [words(each) for each in config[name].get("lists", ())]
        return set(config[name].get("words", ())).union(*inner)

    return {name: words(name) for name in ("adj_any", "subj")}


def split_label(name: str) -> tuple[str, str]:
    """Split `label=name` into both; without a label, make a short one from the name."""
    label, equals, rest = name.strip().partition("=")
    if equals and label.strip() and "/" not in label:
        return label.strip(), rest.strip()
    name = name.strip()
    if name.startswith("models:/"):
        return name.removeprefix("models:/"), name
    folder = os.path.expanduser(name)  # no error, whatever the name
    return (Path(folder).resolve().name if name and os.path.isdir(folder) else name), name


def label_models(
    models: Iterable[str], clean: Callable[[str], str] = lambda label: label
) -> dict[str, str]:
    """Map labels, made valid by `clean`, to the names of models.

    Raises:
        ParameterError: There are none, or two with the same label.
    """
    pairs = [split_label(name) for name in models]
    labels = {clean(label): name for label, name in pairs}
    if not labels or len(labels) < len(pairs):
        raise ParameterError(
            f"got the models {', '.join(label for label, _ in pairs) or '(none)'}, wanted at least "
            "one, each once; put a label before those with the same name, such as "
            "mine=quickstart-policy"
        )
    return labels
