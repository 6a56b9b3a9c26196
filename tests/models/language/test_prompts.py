"""Two policies sampled with the same seeds and measured against loops over single completions."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import ModelError, ParameterError
from models.evaluation.samples import PolicySamples
from models.language.config import SamplingConfig
from models.language.folders import load_causal_model, load_reward_model, save_model
from models.language.generation import complete, encode_to_fit, measure_policies
from models.language.tokenizer import decode_completion, encode_prompts

PROMPTS: list[Any] = ["the cat", "what is the sum of two and three?", "a dog ran home"]
SAMPLING = SamplingConfig(temperature=0.6, max_completion_tokens=10, batch_size=5)
SAMPLES = 4
SCORERS = ("reward", "judge")


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Any], tokenizer: Any
) -> dict[str, Path]:
    """Folders of an SFT model, another policy, a reward model and a held-out one."""
    out = tmp_path_factory.mktemp("policies")
    for seed, name in enumerate(("sft", "ppo", "reward", "judge")):
        model = make_network(
            "llama", vocab=len(tokenizer), seed=seed, score_head=name in SCORERS, spread=0.2
        )
        model.config.pad_token_id = tokenizer.pad_token_id
        save_model(model, tokenizer, out / name)
    return {name: out / name for name in ("sft", "ppo", "reward", "judge")}


def _measure(folders: dict[str, Path], **changes: Any) -> tuple[PolicySamples, PolicySamples]:
    return measure_policies(
        **{
            **folders,
            "prompts": PROMPTS,
            "samples_per_prompt": SAMPLES,
            "sampling": SAMPLING,
            "seed": 5,
            "device": "cpu",
            **changes,
        }
    )


@torch.no_grad()
def test_measured_samples_equal_loops_over_single_completions(
    folders: dict[str, Path], tokenizer: Any, unpadded: Any
) -> None:
    reference, actor = (load_causal_model(folders[name]) for name in ("sft", "ppo"))
    reward_model = load_reward_model(folders["reward"])
    encoded = encode_prompts(tokenizer, PROMPTS, 50)
    for policy, samples in zip((reference, actor), _measure(folders), strict=True):
        assert samples.finished.shape == (len(PROMPTS), SAMPLES)
        for row, prompt in enumerate(encoded):
            for column, ids in enumerate(samples.token_ids[row]):
                assert samples.texts[row][column] == decode_completion(tokenizer, ids)
                assert samples.finished[row, column] == (ids[-1] == tokenizer.eos_token_id)
                score = unpadded.score(reward_model, [*prompt, *ids])
                logprobs = [
                    unpadded.logprobs(model, prompt, ids, 0.6).sum()
                    for model in (policy, reference)
                ]
                # Ten float32 logprobs of size 10, each right to 1e-6 or so.
                assert samples.score[row, column] == pytest.approx(float(score), abs=1e-4)
                kl = float(logprobs[0] - logprobs[1])
                assert samples.kl[row, column] == pytest.approx(kl, abs=1e-4)
    assert np.abs(samples.kl).mean() > 1.0  # the second policy is another one


def test_judge_scores_the_same_samples_and_changes_nothing_else(
    folders: dict[str, Path], tokenizer: Any, unpadded: Any
) -> None:
    judge = load_reward_model(folders["judge"])
    encoded = encode_prompts(tokenizer, PROMPTS, 50)
    for judged, plain in zip(_measure(folders), _measure(folders, judge=None), strict=True):
        assert judged.judge_score is not None
        assert plain.judge_score is None
        assert judged.texts == plain.texts
        assert (judged.score == plain.score).all()
        assert (judged.kl == plain.kl).all()
        for row, prompt in enumerate(encoded):
            for column, ids in enumerate(judged.token_ids[row]):
                score = float(unpadded.score(judge, [*prompt, *ids]).detach())
                # Float32 scores around 1, as above.
                assert judged.judge_score[row, column] == pytest.approx(score, abs=1e-4)
        assert np.abs(judged.judge_score - judged.score).mean() > 0.1  # another model


@pytest.mark.parametrize("role", SCORERS)
def test_reward_models_with_another_tokenizer_are_refused(
    folders: dict[str, Path],
    tmp_path: Path,
    make_network: Callable[..., Any],
    tokenizer: Any,
    role: str,
) -> None:
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["zebra"])
    model = make_network("llama", vocab=len(grown), score_head=True)
    model.config.pad_token_id = grown.pad_token_id
    save_model(model, grown, tmp_path / "other")
    wanted = (
        rf"the {role}.* another tokenizer \(of {len(grown)} tokens\) .* \(of {len(tokenizer)}\)"
    )
    with pytest.raises(ModelError, match=wanted):
        _measure(folders | {role: tmp_path / "other"})


def test_reference_has_no_divergence_from_itself(folders: dict[str, Path]) -> None:
    sft, _ = _measure(folders)
    assert (sft.kl == 0.0).all()


def test_equal_policies_have_equal_luck(folders: dict[str, Path]) -> None:
    sft, ppo = _measure(folders | {"ppo": folders["sft"]})
    assert sft.texts == ppo.texts
    assert (sft.score == ppo.score).all()
    assert np.abs(ppo.kl).max() < 1e-6
    other, _ = _measure(folders, seed=6)
    assert other.texts != sft.texts
    assert len({text for row in sft.texts for text in row}) > len(PROMPTS)  # samples differ


def test_completions_are_texts_in_the_order_of_the_prompts(
    folders: dict[str, Path], tokenizer: Any
) -> None:
    """With almost no temperature each prompt has one completion: the greedy one."""
    cold = SamplingConfig(temperature=1e-4, max_completion_tokens=5, batch_size=2)
    said = complete(model=folders["sft"], prompts=PROMPTS, sampling=cold, seed=0, device="cpu")
    model = load_causal_model(folders["sft"])
    for prompt, sampled in zip(PROMPTS, said, strict=True):
        (ids,) = encode_prompts(tokenizer, [prompt], 50)
        grown = list(ids)
        for _ in range(5):
            with torch.no_grad():
                grown.append(int(model(torch.tensor([grown])).logits[0, -1].argmax()))
        assert sampled.text == decode_completion(tokenizer, grown[len(ids) :])
        assert sampled.finished == (tokenizer.eos_token_id in grown[len(ids) :])
    assert len({sampled.text for sampled in said}) > 1


def test_completions_take_messages(folders: dict[str, Path]) -> None:
    prompts = [[{"role": "user", "content": text}] for text in PROMPTS]
    texts = complete(model=folders["sft"], prompts=prompts, sampling=SAMPLING, seed=0, device="cpu")
    assert len(texts) == len(PROMPTS)


def test_long_prompts_lose_their_beginning_with_a_warning(
    folders: dict[str, Path], tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_causal_model(folders["sft"])
    long = "the cat sat on the mat and slept all day. " * 20
    with caplog.at_level(logging.WARNING):
        short, cut = encode_to_fit(tokenizer, model, ["the cat", long], SAMPLING)
    whole = encode_prompts(tokenizer, ["the cat", long], 10_000)
    assert short == whole[0]
    assert cut == whole[1][-54:]  # a context of 64 less the longest completion of 10
    assert "1 of 2 prompts are too long" in caplog.text


def test_fitting_prompts_are_encoded_without_a_warning(
    folders: dict[str, Path], tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_causal_model(folders["sft"])
    assert encode_to_fit(tokenizer, model, PROMPTS, SAMPLING) == encode_prompts(
        tokenizer, PROMPTS, 10_000
    )
    assert caplog.text == ""


def test_completions_that_fill_the_context_are_refused(
    folders: dict[str, Path], tokenizer: Any
) -> None:
    model = load_causal_model(folders["sft"])
    full = SamplingConfig(max_completion_tokens=64)
    with pytest.raises(ParameterError, match=r"64 leaves no room .* context of 64; .* at most 63"):
        encode_to_fit(tokenizer, model, PROMPTS, full)
