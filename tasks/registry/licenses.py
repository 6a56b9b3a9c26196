"""The licence of a model as its source tells it: a folder's card or config, or the hub.

Nothing is guessed: where nobody tells, there is none to report.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi

HUB = re.compile(r"(?P<id>[\w.-]+(/[\w.-]+)?)@(?P<commit>[0-9a-f]{40})")
"""A model of the hub, as the manifest of what was adopted from there names it."""
HUB_SECONDS = 5.0


def folder_license(folder: Path) -> dict[str, str]:
    """The licence that a model folder's card or config tells."""
    card, config = folder / "README.md", folder / "config.json"
    told: Any = {}
    if card.is_file():
        front = re.match(
            r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.S
        )
        with_front = front[1] if front else ""
        try:
            told = yaml.safe_load(with_front)
        except yaml.YAMLError:
            told = {}
    if not (isinstance(told, dict) and told.get("license")) and config.is_file():
        try:
            told = json.loads(config.read_text(encoding="utf-8"))
        except ValueError:
            told = {}
    return _license_fields(told)


def hub_license(source: str) -> dict[str, str]:
    """The licence that the hub tells of `id@commit`; nothing where it does not answer."""
    match = HUB.fullmatch(source)
    if match is None:
        return {}
    try:
        info = HfApi().model_info(match["id"], revision=match["commit"], timeout=HUB_SECONDS)
        return _license_fields(info.card_data.to_dict() if info.card_data else {})
    except Exception:  # the client raises errors of several libraries; a card goes without it
        return {}


def _license_fields(told: Any) -> dict[str, str]:
    fields = ("license", "license_name", "license_link")
    known = told if isinstance(told, dict) else {}
    found = {name: known[name] for name in fields if isinstance(known.get(name), str)}
    return found if found.get("license") else {}
