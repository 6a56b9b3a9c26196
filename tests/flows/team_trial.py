"""Cancels and kills at random moments under `quartet up`, in two processes; run by hand.

    python -m tests.flows.team_trial cancel|kill ROUNDS [SEED]

Each round starts the tiny pipeline, whose stages before PPO are there, disturbs it at a random
moment of PPO, waits until every process is gone, runs again, and compares the policy's weights
with those of an undisturbed run, bit for bit. The horizon of a controller that is off tells the
rounds apart without changing a bit.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

from tasks.machine.guardian import descendants
from tests.flows.conftest import TINY
from tests.flows.operated import IN_TWO, Operation, operated, until, weights

LIMITS = {"cancel": 45.0, "kill": 30.0}
"""Seconds after which nothing may be left of a run."""

PPO = ("ppo.iterations=30", "ppo.checkpoint_iterations=2")
VICTIMS = ("rank", "torchrun", "flow", "guardian")


def main(how: str, rounds: int, seed: int) -> int:
    """Disturb as often as wanted; 1 if a round went wrong."""
    chance, failed = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder, operated(Path(folder)) as operation:
        operation.wait(_start(operation, 0), "Completed", seconds=900)
        undisturbed = operation.policy(10_000)
        seconds = undisturbed.seconds
        print(f"undisturbed: PPO took {seconds:.0f} s", flush=True)
        for number in range(1, rounds + 1):
            run = _start(operation, number)
            until(lambda: "rank" in operation.team(), 300, "PPO's processes")
            time.sleep(chance.uniform(0, 0.8 * seconds))
            victim = _disturb(operation, run, how, chance)
            gone = _seconds_until_gone(operation)
            operation.wait(run, "Cancelled", "Failed", "Crashed", "Completed", seconds=120)
            said = operation.run(run).state
            if said is not None and not said.is_completed():
                # A retry may be overruled by the worker's second report of a death.
                operation.wait(_start(operation, number), "Completed", seconds=900)
            same = weights(operation.policy(10_000 + number)) == weights(undisturbed)
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
    further = (*TINY, *PPO, f"ppo.kl_horizon={10_000 + number}")
    return operation.start_pipeline(*further, called=f"trial-{number}", settings=IN_TWO)


def _disturb(operation: Operation, run: UUID, how: str, chance: random.Random) -> str:
    team = operation.team()
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
    until(lambda: not set(operation.team()) - {"flow"}, 90, "the end of all processes")
    return time.monotonic() - begin


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else 0))
