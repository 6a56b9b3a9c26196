"""Whether the chat template of the model that will be used renders every row of the data.

Called when data and model are there, before anything is trained on them: a template that refuses
one held-out prompt would otherwise stop PPO, hours later. No stage of its own, since nothing is
computed; which data a model's template has rendered is noted in the home folder, so that a run
that reuses everything loads no tokenizer for it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeAlias

from models.display import in_one_line
from models.errors import DataError
from models.rows import read_json
from tasks.results.store import StageRef, Store
from tasks.run.planning import planning
from tasks.settings import load_settings

COLLECTIONS = ("demonstrations", "preferences", "prompts")
SIDES = {"train": "training", "heldout": "held-out"}

NOTES = "templates"
"""Folder of the home folder."""

EXCERPT = 60
"""Characters of a text in a message."""

Roles: TypeAlias = tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Rows:
    """Prompts of one order of roles in one file: how many, and the first of them."""

    file: str
    kind: str
    number: int
    text: str
    count: int = 0


def check_template(data: StageRef, model: StageRef) -> None:
    """Refuse prepared data of which a model's chat template refuses rows.

    While planning, only what is there already is looked at.

    Args:
        model: A model, or the tokenizer of one that is not trained yet.

    Raises:
        DataError: With counts, an example and the remedy.
    """
    settings = load_settings()
    store = Store(settings.store)
    note = settings.root / NOTES / f"{data.digest}-{model.digest}"
    if note.exists():
        return
    rows, folder = (store.folder(ref.stage, ref.digest) for ref in (data, model))
    if planning() is not None and not (rows.is_dir() and folder.is_dir()):
        return
    check_rows(rows, folder, f"{model.stage}/{model.digest[:12]}")
    if planning() is None:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()


def check_rows(data: Path, model: Path, name: str) -> None:
    """Refuse rows that the chat template of a model refuses.

    Args:
        data: Folder of prepared datasets.
        model: Folder of a model or tokenizer, or of the stage that published it; one without a
            chat template gets that of adoption.
        name: What a message calls the model.

    Raises:
        DataError: With counts, an example and the remedy.
    """
    if not read_json(data / "quality.json")["conversational"]:
        return
    found = _rows_by_roles(data)
    from models.language.frames import refused_roles  # imports transformers

    tokenizer = _tokenizer(model)
    refused = refused_roles(tokenizer, found)
    if not refused:
        return
    places = [rows for roles in refused for rows in found[roles]]
    counts = {roles: sum(rows.count for rows in each) for roles, each in found.items()}
    raise DataError(
        f"the chat template of {name} refuses {sum(counts[roles] for roles in refused):,} of "
        f"{sum(counts.values()):,} rows ({_by_kind(places)}); nothing was trained on them. "
        f"{_examples(refused, found)}. {_remedy(tokenizer, refused, counts)}"
    )


def _tokenizer(folder: Path) -> object:
    from models.adoption.adopt import complete_tokenizer  # imports torch
    from models.language.reading import read_tokenizer

    inner = (folder / part for part in ("model", "tokenizer"))
    tokenizer = read_tokenizer(next((one for one in inner if one.is_dir()), folder))
    complete_tokenizer(tokenizer)
    return tokenizer


def _rows_by_roles(data: Path) -> dict[Roles, list[_Rows]]:
    """The rows with messages by the roles of their prompts, a record of each file."""
    found: dict[Roles, dict[str, _Rows]] = {}
    for collection, (side, word) in product(COLLECTIONS, SIDES.items()):
        path = data / f"{collection}_{side}.jsonl"
        for number, prompt in enumerate(_prompts(path), start=1):
            here = found.setdefault(tuple([message["role"] for message in prompt]), {})
            if path.name not in here:
                here[path.name] = _Rows(
                    file=path.name,
                    kind=f"{word} {collection}",
                    number=number,
                    text=prompt[-1]["content"][:EXCERPT],
                )
            here[path.name].count += 1
    return {roles: list(files.values()) for roles, files in found.items()}


def _prompts(path: Path) -> Iterator[list[dict[str, str]]]:
    """The prompts of a file of prepared rows, without the rest of each row."""
    decoder, start = json.JSONDecoder(), '{"prompt": '
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            first = line.startswith(start)
            yield (decoder.raw_decode(line, len(start))[0] if first else json.loads(line)["prompt"])


def _by_kind(places: Sequence[_Rows]) -> str:
    counts: Counter[str] = Counter()
    for rows in places:
        counts[rows.kind] += rows.count
    return ", ".join(f"{kind}: {count:,}" for kind, count in counts.items())


def _examples(refused: Mapping[Roles, str], found: Mapping[Roles, list[_Rows]]) -> str:
    """The first row of each reason, of at most three reasons."""
    firsts: dict[str, Roles] = {}
    for roles, reason in refused.items():
        firsts.setdefault(reason, roles)
    return "; ".join(
        f"{in_one_line(reason)}: {rows.file}, row {rows.number} ({_shown(roles)}), "
        f"{in_one_line(rows.text)!r}"
        for reason, roles in list(firsts.items())[:3]
        for rows in found[roles][:1]
    )


def _remedy(tokenizer: object, refused: Mapping[Roles, str], counts: Mapping[Roles, int]) -> str:
    """Which options make how many of the refused rows fit, and what to do with the rest."""
    from models.language.frames import refused_roles

    fold = "data.fold_system=true (the system message's text then begins the first user message)"
    join = "data.join_turns=true (neighbouring messages of one role then become one)"
    ways: Mapping[str, Callable[[Roles], Roles]] = {
        fold: _folded,
        join: _joined,
        f"{fold} and {join}": lambda roles: _joined(_folded(roles)),
    }
    left, advice = set(refused), []
    for words, change in ways.items():
        changed = {roles: change(roles) for roles in left}
        still = refused_roles(tokenizer, set(changed.values()))
        fitting = {roles for roles, now in changed.items() if now not in still}
        if fitting:
            rows = sum(counts[roles] for roles in fitting)
            advice.append(f"for {rows:,} of them set {words}")
        left -= fitting
    if left:
        rows = sum(counts[roles] for roles in left)
        orders = " or ".join(f"({_shown(roles)})" for roles in sorted(left)[:3])
        advice.append(f"remove {rows:,} with the roles {orders}, or take another model")
    text = "; ".join(advice)
    return f"{text[0].upper()}{text[1:]}"


def _shown(roles: Roles) -> str:
    return ", ".join(roles)


def _folded(roles: Roles) -> Roles:
    return roles[1:] if roles[:2] == ("system", "user") else roles


def _joined(roles: Roles) -> Roles:
    return tuple(role for at, role in enumerate(roles) if at == 0 or roles[at - 1] != role)
