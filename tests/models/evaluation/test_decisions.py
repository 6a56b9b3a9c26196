"""The one list of checks decides as the verdict and the gates of promotion did before it.

`decisions.json` holds what those two decided on random evidence, check by check: 1 passed,
0 failed, - not asked. What is meant to differ is stated here: the union of their rules, a floor of
prompts, wider bounds of the length; and the gain at equal length, which is the plain one here.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from models.evaluation.checks import MIN_PROMPTS, Evidence, GoodDiversity, Sides, decide
from models.evaluation.config import Bounds
from models.statistics.diversity import MatchedDistinct
from models.statistics.intervals import Interval
from tests.models.evaluation.random_evidence import cases

OLD_BOUNDS = Bounds(min_length_ratio=0.7, max_length_ratio=1.4)
NAMES = {"gold judge": "gold", "held-out reward model": "judge", "reward model": "reward"}


def evidence_of(case: dict[str, Any], finite: dict[str, float], kl: float | None) -> Evidence:
    matched = MatchedDistinct(
        completions=case["matched"], sft=case["matched_sft"], ppo=case["matched_ppo"]
    )
    good = GoodDiversity(pair_difference=case["pair_difference"], matched=matched)
    score_gain = case["score_gain"]
    return Evidence(
        judge=NAMES[case["judge"]],
        gain=interval(case["gain"]),
        controlled=interval(case["gain"]),
        prompts=case["prompts"],
        finite=finite,
        length=Sides(baseline=case["length_sft"], model=case["length_ppo"]),
        eos_rate=Sides(baseline=case["eos_sft"], model=case["eos_ppo"]),
        distinct_2=Sides(baseline=case["distinct_sft"], model=case["distinct_ppo"]),
        good=good if case["judge"] == "gold judge" else None,
        score_gain=None if score_gain is None else interval(score_gain),
        kl_to_reference=kl,
        alarms=case["alarms"],
    )


def interval(ends: tuple[float, float, float]) -> Interval:
    return Interval(mean=ends[0], low=ends[1], high=ends[2])


def recorded() -> dict[str, Any]:
    path = Path(__file__).with_name("decisions.json")
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


def differences(told: dict[str, Any], which: str) -> list[str]:
    """Cases in which a check that was asked before now comes out otherwise."""
    names, decisions = told[f"{which}_checks".replace("gates_", "gate_")], told[which].split()
    found = []
    for index, case in enumerate(cases(told["count"], told["seed"])):
        kl = case["kl"]
        scores = {"SFT's score": case["score_sft"], "PPO's score": case["score_ppo"]}
        if which == "gates" and kl is None:
            kl = math.nan  # a promotion always asked for it
        finite = scores if kl is None else scores | {"PPO's kl_to_reference": kl}
        verdict = decide(evidence_of(case, finite, kl), OLD_BOUNDS)
        now = {check.name: check.passed for check in verdict.checks}
        now["diversity_ratio"] = now.get("matched_distinct_2_ratio", now.get("distinct_2_ratio"))
        before = dict(zip(names, decisions[index], strict=True))
        wrong = [
            name
            for name, passed in before.items()
            if {"1": True, "0": False, "-": now.get(name)}[passed] != now.get(name)
        ]
        further = {
            "prompts": case["prompts"] >= MIN_PROMPTS,
            "alarms": not any(case["alarms"].values()),
        }
        if which == "gates":
            further |= {
                name: now[name]
                for name in ("overoptimisation", "good_pair_difference")
                if name in now
            }
        accepted = "0" not in decisions[index] and all(further.values())
        if wrong or verdict.accepted != accepted:
            found.append(f"case {index}: {wrong or 'accepted'} ({case})")
    return found


@pytest.mark.parametrize("which", ["verdict", "gates"])
def test_checks_decide_as_verdict_and_gates_did_but_for_the_union(which: str) -> None:
    told = recorded()
    decisions = told[which].split()
    assert len(decisions) == told["count"] == 3000
    assert 100 < sum("0" not in one for one in decisions) < 2900  # both outcomes are there
    assert differences(told, which) == []


def test_the_comparison_notices_a_bound_that_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.evaluation.checks._ROUNDING", -0.02)
    assert differences(recorded(), "verdict")
