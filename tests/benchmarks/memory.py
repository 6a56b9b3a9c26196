"""Planned against measured memory: one iteration of PPO, a few steps of SFT, in sizes and modes.

    OMP_NUM_THREADS=1 python tests/benchmarks/memory.py [--stages ppo sft] [--sizes S M L]

Each is run in a process of its own, or two, on a CPU with one thread. Measured is the most that it
held (Linux's VmHWM, begun anew) above what it held before, when it had done the same with a tiny
network: libraries import more at their first use, which a plan counts with the process. With
MALLOC_MMAP_THRESHOLD_=65536 malloc gives everything back at once, and what is measured is what is
in use; `--scale gpu` then plans so as well.
"""

import argparse
import contextlib
import gc
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from networks import tokenizer
from workloads import EOS_ID, SIZES, Size

from flows.parameters import load_preset
from flows.planning.costs import FRAME, Known
from flows.planning.memory import Scale, peak
from flows.planning.needs import memory_of
from flows.planning.sizes import sizes_in

PROMPT, COMPLETION = 40, 64
"""Tokens of every row."""
SIZES["L"] = Size(vocabulary=49152, width=576, feed_forward=1536, layers=8, heads=9)
"""SmolLM2-135M's proportions, with 8 of its 30 layers: 56.6 million parameters."""
KEY_HEADS = {"L": 3}

COMMON = [
    "model.context=256",
    f"sampling.max_completion_tokens={COMPLETION}",
    f"sampling.min_completion_tokens={COMPLETION}",
    "ppo.rollouts_per_iteration=16",
    "ppo.rollouts_per_minibatch=8",
    "ppo.ppo_epochs=1",
    "ppo.critic_warmup_iterations=0",
    "ppo.iterations=1",
    "ppo.max_approx_kl=1e9",
    "sft.batch_size=8",
    "sft.checkpoint_steps=1000",
]
MODES = {
    "full": "",
    "checkpointing": "{}.gradient_checkpointing=true",
    "micro-batches": "{}.tokens_per_microbatch=256",
    "LoRA": "{}.lora.rank=16",
    "bfloat16": "{}.precision=bfloat16",
    "sharded": "",
    "tensor parallel": "",
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "sharded": {"sharding": "full"},
    "tensor parallel": {"tensor_parallel": 2},
}
"""Of modes in two processes; what the one that holds more of the two holds is measured."""


def settings_of(stage: str, mode: str) -> list[str]:
    """The parameters of one measurement."""
    return [*COMMON, *filter(None, [MODES[mode].format(stage)])]


def planned(stage: str, folder: Path, mode: str, scale: Scale) -> int:
    """Bytes by the formulas, for rows of exactly so many tokens."""
    if layout := LAYOUTS.get(mode):
        both = {"sharding": "replicate", "tensor_parallel": 1} | layout
        scale = Scale.among(2, **both, like=scale)
    numbers = {
        "tokenizer/bytes_per_token": 1.0,
        "characters/prompt": PROMPT - FRAME,
        "characters/completion": float(COMPLETION),
    }
    parameters = load_preset("quickstart", settings_of(stage, mode)).model_dump(mode="json")
    known = Known(parameters=parameters, numbers=numbers, network=sizes_in(folder / "sft"))
    return peak(memory_of(stage, known, scale), scale)


def make_models(size_name: str, folder: Path) -> None:
    """Write an SFT model and a reward model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from models.language.folders import new_reward_model, save_model

    size = SIZES[size_name]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.width,
            intermediate_size=size.feed_forward,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=KEY_HEADS.get(size_name, size.heads),
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=EOS_ID,
        )
    )
    save_model(model, tokenizer(size_name), folder / "sft")
    reward = new_reward_model(folder / "sft", seed=0)
    reward.config.pad_token_id = 0
    save_model(reward, tokenizer(size_name), folder / "reward")


def measure(stage: str, folder: Path, mode: str) -> None:
    """Run one stage, here or as one of two processes; print the most bytes that it took."""
    import torch

    from models.distributed.team import current_team, joined_team

    torch.set_num_threads(1)
    layout = LAYOUTS.get(mode)
    with joined_team("cpu", **layout) if layout else contextlib.nullcontext():
        most = max(current_team().gather(_most_bytes(stage, folder, mode)))
        if current_team().leads:
            print(most, flush=True)


def _most_bytes(stage: str, folder: Path, mode: str) -> int:
    parameters = load_preset("quickstart", settings_of(stage, mode))
    run = _run_ppo if stage == "ppo" else _run_sft
    run(folder.with_name("tiny"), parameters)
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
    run(folder, parameters)
    return _status("VmHWM") - before


def _run_ppo(folder: Path, parameters: Any) -> None:
    from models.language.scoring import ScoreMoments
    from models.ppo.networks import load_networks
    from models.ppo.trainer import PPOTrainer

    config = parameters.ppo
    draw = random.Random(0)
    PPOTrainer(
        networks=load_networks(
            folder / "sft", folder / "reward", config=config, seed=0, device="cpu"
        ),
        prompts=[[draw.randrange(3, 200) for _ in range(PROMPT)] for _ in range(64)],
        config=config,
        sampling=parameters.sampling,
        moments=ScoreMoments(mean=0.0, std=1.0, raw_std=1.0, samples=2),
        eos_token_id=EOS_ID,
        seed=0,
    ).step()


def _run_sft(folder: Path, parameters: Any) -> None:
    from models.rows import write_rows
    from models.runtime import TrainingRun
    from models.training.sft import finetune

    draw = random.Random(0)

    def words(count: int) -> str:
        return " ".join(f"t{draw.randrange(3, 200)}" for _ in range(count))

    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows.jsonl"
        # EOS comes behind the completion; the words of both parts are parted by a blank
        made = [
            {"prompt": words(PROMPT), "completion": f" {words(COMPLETION - 1)}"} for _ in range(24)
        ]
        write_rows(rows, made)
        finetune(
            base=folder / "sft",
            demonstrations=rows,
            heldout=rows,
            config=parameters.sft,
            run=TrainingRun(
                out=Path(scratch) / "out",
                checkpoints=Path(scratch) / "checkpoints",
                seed=0,
                device="cpu",
                log=lambda metrics, step: None,
            ),
        )


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def _in_child(*words: str, processes: int = 1) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), __file__, *words],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def main() -> None:
    """Measure and print one line each."""
    if sys.argv[1:2] == ["--make"]:
        make_models(sys.argv[2], Path(sys.argv[3]))
        return
    if sys.argv[1:2] == ["--measure"]:
        stage, folder, mode = sys.argv[2:]
        measure(stage, Path(folder), mode)
        return
    parser = argparse.ArgumentParser(description="Planned against measured memory.")
    parser.add_argument("--stages", nargs="*", default=["ppo", "sft"])
    parser.add_argument("--sizes", nargs="*", default=["S", "M", "L"])
    parser.add_argument("--modes", nargs="*", default=list(MODES))
    parser.add_argument("--scale", choices=["cpu", "gpu"], default="cpu")
    given = parser.parse_args()
    print("| stage | size | mode | planned, MiB | measured, MiB | ratio |")
    print("|---|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        _in_child("--make", "tiny", str(Path(scratch) / "tiny"))
        for size in given.sizes:
            folder = Path(scratch) / size
            _in_child("--make", size, str(folder))
            for stage in given.stages:
                for mode in given.modes:
                    words = ("--measure", stage, str(folder), mode)
                    real = int(_in_child(*words, processes=2 if mode in LAYOUTS else 1))
                    plan = planned(stage, folder, mode, Scale(gpu=given.scale == "gpu"))
                    print(
                        f"| {stage} | {size} | {mode} | {plan / 2**20:,.0f} | {real / 2**20:,.0f} "
                        f"| {plan / real:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
