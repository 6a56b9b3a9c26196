"""How fast this machine learns and samples: measured once for a size of network, kept at home."""

import contextlib
import json
import logging
import platform
from dataclasses import asdict
from typing import TYPE_CHECKING

from models.runtime import use_device
from tasks.settings import Settings

if TYPE_CHECKING:
    from models.training.speed import Speeds

logger = logging.getLogger(__name__)


def measured_speeds(
    settings: Settings, *, layers: int, width: int, feed_forward: int, vocabulary: int
) -> "Speeds":
    """Operations per second of a language model of a size, in learning and in sampling.

    The first time on a machine this takes a few seconds.
    """
    from models.training.speed import Speeds, measure_speeds  # imports torch

    path = settings.root / "speed.json"
    known: dict[str, dict[str, float]] = {}
    with contextlib.suppress(OSError, ValueError):
        known = dict(json.loads(path.read_bytes()))
    size = f"{layers} x {width}, {feed_forward} wide, {vocabulary} tokens"
    key = f"{platform.node()}, {settings.device}, {settings.threads} threads: {size}"
    with contextlib.suppress(TypeError, KeyError):
        found = known[key]
        return Speeds(training=found["training"], sampling=found["sampling"])
    logger.info("measuring how fast this machine learns and samples: once, some seconds")
    device = use_device(settings.device, settings.threads)
    measured = measure_speeds(
        layers=layers, width=width, feed_forward=feed_forward, vocabulary=vocabulary, device=device
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known | {key: asdict(measured)}, indent=2) + "\n", encoding="utf-8")
    return measured
