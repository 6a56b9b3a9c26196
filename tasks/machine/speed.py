"""How fast this machine trains: measured once for a size of network, kept in the home folder."""

import contextlib
import json

from models.runtime import use_device
from tasks.settings import Settings


def training_speed(settings: Settings, *, layers: int, width: int, vocabulary: int) -> float:
    """Operations per second of training a language model of a size, 6 for each weight and token.

    The first time this takes a few seconds.
    """
    path = settings.root / "speed.json"
    speeds: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        speeds = json.loads(path.read_bytes())
    key = f"{settings.device}, {settings.threads} threads: {layers} x {width}, {vocabulary} tokens"
    if not isinstance(speeds.get(key), float):
        from models.training.speed import measure_training  # imports torch

        device = use_device(settings.device, settings.threads)
        speeds[key] = measure_training(layers, width, vocabulary, device)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(speeds, indent=2) + "\n", encoding="utf-8")
    return speeds[key]
