"""Plans against what happened: reuse, minutes and peak memory of runs in a new home folder.

    python tests/benchmarks/plan.py [--reviews FOLDER] [path.to.field=value ...]

Prints a line a run and one a stage: the quickstart, the same again, PPO alone with another
seed, and `reviews` on a folder of own files. Settings apply to every run. Seconds mean
something on a quiet machine only; on a shared one, with one thread, the processor time does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import json, sys, time
from flows.cli.environment import prepare_environment
from tasks.settings import load_settings
prepare_environment(load_settings())
from flows.planning import plan as planning
from flows.cli.prefect_runs import flows_run_here
from flows.forms import PPOForm, RunForm
from flows.pipeline import rlhf_pipeline
from flows.stages import ppo_flow
from tasks.results.store import Store

kind, preset, *further = sys.argv[1:]
made = []
make = planning.make_plan
planning.make_plan = lambda *given: made.append(make(*given)) or made[-1]
with flows_run_here(load_settings(), "flows.pipeline"):
    started, used = time.monotonic(), time.process_time()
    if kind == "pipeline":
        refs = rlhf_pipeline(RunForm.of(preset, further)).stages
    else:
        sft, reward, *further = further
        refs = [ppo_flow(sft, reward, PPOForm.of(preset, further))]
    seconds, used = time.monotonic() - started, time.process_time() - used
store = Store(load_settings().store)
(plan,) = made
foretold = {one.digest: (one, cost) for one, cost in zip(plan.stages, plan.costs)}
stages = [
    [one.stage, foretold[one.digest][1].seconds, one.seconds, foretold[one.digest][1].peak_gib,
     store.find(one.stage, one.digest).peak_gib]
    for one in refs if not one.reused
]
print(json.dumps({
    "seconds": [plan.seconds, seconds, used],
    "peak": [plan.peak_gib, max((one[4] for one in stages), default=0.0)],
    "exact": all(foretold[one.digest][0].reused == one.reused for one in refs),
    "stages": stages,
    "refs": {one.stage: one.digest for one in refs},
}), file=sys.stderr)
"""


def measured(title: str, home: Path, *words: str) -> dict[str, str]:
    """Plan and run in a process of its own; print how they compare; give the stages' digests."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, "QUARTET_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(done.stderr.splitlines()[-1])
    (planned, took, used), (foretold, peak) = found["seconds"], found["peak"]
    memory = f"{foretold:.2f} / {peak:.2f} GiB = {foretold / peak:.2f}" if peak else "nothing new"
    print(
        f"{title:18} reuse {'exact' if found['exact'] else 'WRONG'}; "
        f"{planned:.1f} / {took:.1f} s = {planned / took:.2f} ({used:.1f} s of processor time); "
        f"{memory}"
    )
    for stage, seconds, real, gib, real_gib in found["stages"]:
        time = f"{seconds:7.1f} / {real:7.1f} s = {seconds / real:.2f}" if seconds else "?"
        print(f"    {stage:16} {time}; {gib:.2f} / {real_gib:.2f} GiB")
    sys.stdout.flush()
    return dict(found["refs"])


def main() -> None:
    """Run and compare."""
    parser = argparse.ArgumentParser(description="Plans against what happened.")
    parser.add_argument("--reviews", type=Path, help="Folder with files for the preset reviews.")
    parser.add_argument("settings", nargs="*")
    given = parser.parse_args()
    print("foretold / real")
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        refs = measured("quickstart", home, "pipeline", "quickstart", *given.settings)
        measured("the same again", home, "pipeline", "quickstart", *given.settings)
        models = [f"{stage}/{refs[stage]}" for stage in ("sft", "reward")]
        measured("PPO alone", home, "stage", "quickstart", *models, *given.settings, "seed=1")
        if given.reviews:
            own = [f"data.folder={given.reviews}", "reward_quality.stop_if_weak=false"]
            measured("reviews", home, "pipeline", "reviews", *own, *given.settings)


if __name__ == "__main__":
    main()
