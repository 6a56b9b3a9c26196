"""What the memory cannot hold is refused with the estimate and the remedy; presets always fit."""

import pytest

from flows.parameters import list_presets, load_preset
from flows.planning import limits
from flows.planning.limits import check_memory, stages_of_pipeline
from flows.planning.memory import Scale
from models.errors import ParameterError
from tasks.machine.memory import gpu_memory, main_memory
from tasks.settings import Settings

GIB = 2**30
CPU = Settings(device="cpu")


@pytest.fixture(autouse=True)
def _sixteen_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "main_memory", lambda: 16 * GIB)


@pytest.mark.parametrize("preset", list_presets())
def test_presets_need_little(preset: str) -> None:
    p = load_preset(preset)
    for need in limits._needs(p, Scale(), stages_of_pipeline(p)):
        assert need.size < GIB // 2, need


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        # 4 * 65536^2 + 3 * 65536 * 174768 + 2 * 65536 = 51,541,180,416 weights in each of 1000
        # layers, 2001 * 65536 around them. Four networks of 4 bytes, twice two moments of 4, one
        # gradient at a time: 36 bytes for each
        (["model.layers=1000", "model.width=65536"], r"1,728,043\.9 GiB.*16\.0 GiB.*model\.layers"),
        (["tokenizer.vocab_size=1000000", "model.width=8192"], r"tokenizer\.vocab_size"),
        (
            ["pretrain.batch_size=65536", "pretrain.tokens_per_microbatch=10000000"],
            r"pretraining of 4,194,304 tokens.*pretrain\.tokens_per_microbatch",
        ),
        (["pretrain.batch_size=65536"], ""),  # in micro-batches it fits
        (["pretrain.steps=100000000"], r"order of 1,600,000,000.*71\.5 GiB.*pretrain\.steps"),
        (
            ["sft.batch_size=65536", "model.width=1024", "sft.tokens_per_microbatch=2000000"],
            r"SFT of 1,048,576 tokens",
        ),
        (
            ["reward.batch_size=65536", "model.width=1024", "reward.tokens_per_microbatch=3000000"],
            r"reward model training of 2,097,152 tokens.*reward\.tokens_per_microbatch",
        ),
        (["model.context=100000", "sampling.max_completion_tokens=90000"], r"sampling\.batch_size"),
        (
            [
                "ppo.rollouts_per_iteration=1000000",
                "ppo.rollouts_per_minibatch=1000000",
                "model.context=10000",
                "sampling.max_completion_tokens=9000",
            ],
            r"ppo\.rollouts_per_iteration",
        ),
        (["data.world.documents=100000000"], r"generated world.*data\.world\.documents"),
        (["feedback.preferences=10000000", "ppo.iterations=1"], ""),  # 11.2 GiB: fits
    ],
)
def test_what_does_not_fit_is_refused(settings: list[str], wanted: str) -> None:
    parameters = load_preset("quickstart", settings)
    if not wanted:
        check_memory(parameters, CPU)
        return
    with pytest.raises(ParameterError, match=wanted) as raised:
        check_memory(parameters, CPU)
    assert "\n" not in str(raised.value)


LARGE = ["model.layers=12", "model.width=2048", "model.heads=16"]
"""0.6 billion weights: at 36 bytes each PPO does not fit in 16 GiB, at 16 bytes training does."""
MANY = [
    "ppo.rollouts_per_iteration=1000000",
    "ppo.rollouts_per_minibatch=1000000",
    "model.context=10000",
    "sampling.max_completion_tokens=9000",
]


@pytest.mark.parametrize("settings", [LARGE, MANY])
@pytest.mark.parametrize("align", ["dpo", "best_of_n"])
def test_ppo_counts_only_where_it_runs(settings: list[str], align: str) -> None:
    with pytest.raises(ParameterError, match=r"PPO|rollouts"):
        check_memory(load_preset("quickstart", settings), CPU)
    check_memory(load_preset("quickstart", settings), CPU, {"prepare", "sft"})  # a flow's
    check_memory(load_preset("quickstart", [*settings, f"align={align}"]), CPU)


def test_the_gpus_memory_decides_where_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "gpu_memory", lambda device: GIB)
    with pytest.raises(ParameterError, match=r"got 1\.0 GiB on the GPU"):
        check_memory(load_preset("quickstart", ["model.width=2048"]), CPU)
    check_memory(load_preset("quickstart", ["data.world.documents=10000000"]), CPU)  # 4.7 GiB


def test_this_machine_has_memory() -> None:
    assert GIB // 4 < main_memory() < 2**50
    assert gpu_memory("cpu") is None
