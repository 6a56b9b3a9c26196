"""A mixture of experts: its use against a plain loop; its training whole, cut and killed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.families.routing import RoutingWatch, shared_balance
from models.language.folders import load_causal_model
from models.runtime import TrainingRun
from models.training.config import PretrainConfig
from models.training.pretraining import pretrain

EXPERTS = ArchitectureConfig(
    family="mixtral", layers=2, width=16, heads=2, context=32, experts=4, experts_per_token=2
)
CONFIG = PretrainConfig(
    steps=6, batch_size=4, block_tokens=16, learning_rate=5e-3, checkpoint_steps=2
)


def batch(tokenizer: Any, rows: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(len(tokenizer), (rows, 20), generator=generator)


def test_watch_counts_tokens_of_experts_as_a_plain_loop_does(tokenizer: Any) -> None:
    model, ids = build_model(EXPERTS, tokenizer, seed=0), batch(tokenizer)
    with torch.no_grad():
        for layer in model.model.layers:  # some experts are liked far more
            layer.mlp.gate.weight[:] *= torch.tensor([[40.0], [1.0], [20.0], [1.0]])
        with RoutingWatch(model) as watch:
            model.base_model(input_ids=ids[:2])
            model.base_model(input_ids=ids[2:])
        found = model(input_ids=ids, labels=ids)  # which is not counted
    loads = torch.zeros(2, 4)
    for layer, logits in enumerate(found.router_logits):
        for token in logits:
            for expert in token.topk(2).indices:
                loads[layer, expert] += 1
    even = 60 * 2 / 4  # 60 tokens go to two of four experts each
    metrics = watch.metrics()
    assert metrics["expert_load"] == pytest.approx(float(loads.max()) / even)
    assert metrics["idle_experts"] == pytest.approx(float((loads < 0.1 * even).sum()) / 8)
    assert metrics["balance_loss"] == pytest.approx(float(found.aux_loss), rel=1e-5)


def test_watch_sees_nothing_in_a_model_without_experts(tokenizer: Any) -> None:
    model = build_model(ArchitectureConfig(layers=1, width=16, heads=2), tokenizer, seed=0)
    with RoutingWatch(model) as watch, shared_balance(model, 3):
        model(input_ids=batch(tokenizer))
    assert watch.metrics() == {}


def test_balance_loss_of_a_cut_batch_counts_once(tokenizer: Any) -> None:
    model, ids = build_model(EXPERTS, tokenizer, seed=0), batch(tokenizer, rows=4)
    found = [model(input_ids=part) for part in ids.split(2)]
    with shared_balance(model, 2):
        added = sum(
            model(input_ids=part, labels=part).loss.item()
            - float(
                torch.nn.functional.cross_entropy(
                    one.logits[:, :-1].flatten(0, 1), part[:, 1:].flatten()
                )
            )
            for part, one in zip(ids.split(2), found, strict=True)
        )
    assert added == pytest.approx(0.01 * sum(float(one.aux_loss) for one in found) / 2, abs=1e-5)
    assert model.router_aux_loss_coef == 0.01


class Killed(BaseException):
    """Ends a run as a signal would."""


@pytest.fixture
def run(
    tmp_path: Path, tokenizer_folder: Path, corpus_file: Path, make_run: Callable[..., TrainingRun]
) -> Any:
    def start(name: str, log: Any = lambda metrics, step: None, **changes: Any) -> Any:
        return pretrain(
            tokenizer=tokenizer_folder,
            corpus=corpus_file,
            heldout=corpus_file,
            architecture=EXPERTS,
            config=CONFIG.model_copy(update=changes),
            run=make_run(tmp_path / name, log=log),
        )

    return start


def test_mixture_of_experts_learns_is_watched_and_resumes_to_equal_bits(
    run: Any, tmp_path: Path
) -> None:
    seen: dict[int, dict[str, float]] = {}
    metrics = run("whole", lambda found, step: seen.setdefault(step, {}).update(found))
    assert seen[6]["pretrain/loss"] < seen[1]["pretrain/loss"]
    assert [step for step in seen if "pretrain/expert_load" in seen[step]] == [2, 4, 6]
    assert 1 <= metrics["pretrain/expert_load"] <= 2  # of two in four no expert has more
    assert metrics["pretrain/balance_loss"] == pytest.approx(2, abs=0.5)

    def dies(metrics: Mapping[str, float], step: int) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        run("broken", dies)
    assert run("broken") == metrics
    one, two = (tmp_path / name / "model.safetensors" for name in ("whole", "broken"))
    assert one.read_bytes() == two.read_bytes()
    assert load_causal_model(tmp_path / "whole").config.output_router_logits
    cut: dict[int, dict[str, float]] = {}
    log = lambda found, step: cut.setdefault(step, {}).update(found)  # noqa: E731
    run("cut", log, tokens_per_microbatch=16)  # one block at a time
    # The balance loss of four blocks is not the mean of theirs, but has a hundredth's weight.
    assert cut[1]["pretrain/loss"] == pytest.approx(seen[1]["pretrain/loss"], abs=0.01)
    assert cut[6]["pretrain/loss"] == pytest.approx(seen[6]["pretrain/loss"], abs=0.02)
