"""The quality report's numbers, flat and as JSON."""

import json
from collections import Counter
from dataclasses import asdict

import numpy as np

from tasks.data.report import Lengths, PreparationReport
from tasks.data.tally import Tally, measure_lengths


def make_report() -> PreparationReport:
    tally = Tally(
        labels=["sft.csv"], read=7, dropped=Counter({"duplicate": 1, "empty prompt": 2}), cleaned=1
    )
    tally.placeholders = 2
    return PreparationReport(
        source="folder",
        fingerprint="f00",
        conversational=False,
        collections=(
            tally.report(
                "demonstrations",
                train=3,
                heldout=1,
                lengths={"prompt": [2] * 4, "completion": [3] * 4},
            ),
        ),
        contrasts=5,
        overlaps={"held-out prompts also in training demonstrations": 3, "others": 0},
    )


def test_lengths_are_of_characters() -> None:
    # Sizes 1 to 101: the middle one is 51, and 95 of 100 steps up from 1 is 96.
    sizes = np.arange(1, 102, dtype=np.uint32)
    assert measure_lengths(sizes) == Lengths(median=51.0, p95=96.0, maximum=101)


def test_report_metrics_are_flat_numbers() -> None:
    assert make_report().metrics() == {
        "data/demonstrations_rows": 3.0,
        "data/demonstrations_heldout_rows": 1.0,
        "data/demonstrations_dropped_rows": 3.0,
        "data/contrasts_rows": 5.0,
    }


def test_report_dict_is_json() -> None:
    read = json.loads(json.dumps(asdict(make_report())))
    assert read["collections"][0]["dropped"] == {"empty prompt": 2, "duplicate": 1}
    assert read["collections"][0]["lengths"]["prompt"] == {
        "median": 2.0,
        "p95": 2.0,
        "maximum": 2,
    }
