"""Cancels and kills at random moments under `quartet up`, in two processes; run by hand.

    python -m tests.flows.team_trial cancel|kill ROUNDS [SEED]

Each round starts the tiny pipeline, whose stages before PPO are there, disturbs it at a random
moment of PPO, waits until every process is gone, runs again, and compares the policy's weights
with those of an undisturbed run, bit for bit. The horizon of a controller that is off tells the
rounds apart without changing a bit.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

from flows.forms import RunForm
from tasks.machine.guardian import descendants
from tasks.results.manifests import list_published
from tests.flows.conftest import TINY
from tests.flows.operated import Operation, operated, until

LIMITS = {"cancel": 45.0, "kill": 30.0}
"""Seconds after which nothing may be left of a run."""

PPO = ("ppo.iterations=30", "ppo.checkpoint_iterations=2")
VICTIMS = ("rank", "torchrun", "flow", "guardian")


def main(how: str, rounds: int, seed: int) -> int:
    """Disturb as often as wanted; 1 if a round went wrong."""
    chance, failed = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder, operated(Path(folder)) as operation:
        operation.wait(_start(operation, 0), "Completed", seconds=900)
        wanted, seconds = _policy(operation, 0)
        print(f"undisturbed: PPO took {seconds:.0f} s", flush=True)
        for number in range(1, rounds + 1):
            run = _start(operation, number)
            until(lambda: "rank" in _team(operation), 300, "PPO's processes")
            time.sleep(chance.uniform(0, 0.8 * seconds))
            victim = _disturb(operation, run, how, chance)
            gone = _seconds_until_gone(operation)
            operation.wait(run, "Cancelled", "Failed", "Crashed", "Completed", seconds=120)
            said = operation.run(run).state
            if said is not None and not said.is_completed():
                # A retry may be overruled by the worker's second report of a death.
                operation.wait(_start(operation, number), "Completed", seconds=900)
            same = _policy(operation, number)[0] == wanted
            fine = same and gone <= LIMITS[how]
            failed += not fine
            print(
                f"round {number}: {victim}, gone after {gone:.1f} s, {said and said.name}, then "
                f"{'equal' if same else 'DIFFERENT'}{'' if fine else '  FAILED'}", flush=True,
            )  # fmt: skip
        below = descendants(operation.process.pid)
    left = [pid for pid in below if Path(f"/proc/{pid}").exists()]
    print(f"{rounds - failed} of {rounds}; processes left: {left or 'none'}")
    return int(failed > 0 or bool(left))


def _start(operation: Operation, number: int) -> UUID:
    form = RunForm.of("quickstart", (*TINY, *PPO, f"ppo.kl_horizon={10_000 + number}"))
    with operation.client() as client:
        deployment = client.read_deployment_by_name("rlhf-pipeline/quickstart").id
        return client.create_flow_run_from_deployment(
            deployment,
            parameters={"run": form.model_dump(mode="json")},
            name=f"trial-{number}",
            job_variables={"env": {"QUARTET_PROCESSES": "2", "QUARTET_DEVICE": "cpu"}},
        ).id


def _policy(operation: Operation, number: int) -> tuple[str, float]:
    """Digest of a round's weights, and how long PPO took."""
    for folder, manifest in list_published(operation.home / "store", "ppo"):
        if manifest.parameters["ppo"]["kl_horizon"] == 10_000 + number:
            assert manifest.scale["processes"] == 2
            weights = [one for name, one in manifest.files.items() if name.endswith(".safetensors")]
            assert weights, folder
            return json.dumps(sorted(one.sha256 for one in weights)), manifest.seconds
    raise AssertionError(f"no policy of round {number}")


def _team(operation: Operation) -> dict[str, list[int]]:
    """The processes of a training, by what they are."""
    found: dict[str, list[int]] = {}
    for pid in descendants(operation.process.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "torch.distributed.run" in words:
            kind = "guardian" if any("guardian.py" in word for word in words) else "torchrun"
        elif "models.distributed.worker" in words:
            kind = "rank"
        elif "prefect.engine" in words or "prefect.flow_engine" in words:
            kind = "flow"
        else:
            continue
        found.setdefault(kind, []).append(pid)
    return found


def _disturb(operation: Operation, run: UUID, how: str, chance: random.Random) -> str:
    team = _team(operation)
    histories = [*operation.home.glob("store/ppo/*.partial/metrics.jsonl")]
    steps = sum(len(one.read_text().splitlines()) for one in histories)
    when = f"after iteration {steps} with {len(team.get('rank', []))} ranks"
    if how == "cancel":
        operation.cancel(run)
        return f"cancelled {when}"
    victim = chance.choice([one for one in VICTIMS if one in team] or ["flow"])
    flow = operation.flow_process(run)
    pids = [flow] if victim == "flow" and flow else team.get(victim, [])
    if not pids:
        return "nobody was left to kill"
    os.kill(chance.choice(pids), signal.SIGKILL)
    return f"{victim} killed {when}"


def _seconds_until_gone(operation: Operation) -> float:
    begin = time.monotonic()
    until(lambda: not set(_team(operation)) - {"flow"}, 90, "the end of all processes")
    return time.monotonic() - begin


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else 0))
