"""Models sampled with the same seeds, against loops over single completions."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.evaluation.evaluation import evaluate
from models.evaluation.measures import Bootstrap
from models.evaluation.samples import Samples
from models.evaluation.sampling import RewardScorer, sample_and_score, sample_model
from models.language.config import SamplingConfig
from models.language.folders import (
    load_causal_model,
    load_reward_model,
    load_tokenizer,
    save_model,
)
from models.language.tokenizer import decode_completion, encode_prompts, encode_texts
from models.runtime import TrainingRun, ignore

PROMPTS: list[Any] = ["the cat", "what is the sum of two and three?", "a dog ran home"]
SAMPLING = SamplingConfig(temperature=0.6, max_completion_tokens=10, batch_size=5)
SAMPLES = 4
SCORERS = ("reward", "judge", "wide-judge")
Folders = dict[str, Path]


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Any], tokenizer: Any
) -> Folders:
    """An SFT model, another policy, two reward models, and two models with one token more."""
    out = tmp_path_factory.mktemp("policies")
    names = ("sft", "ppo", "reward", "judge", "wide", "wide-judge")
    wide = copy.deepcopy(tokenizer)
    wide.add_tokens(["cat"])
    for seed, name in enumerate(names):
        words = wide if name.startswith("wide") else tokenizer
        model = make_network(
            "llama", vocab=len(words), seed=seed, score_head=name in SCORERS, spread=0.2
        )
        model.config.pad_token_id = words.pad_token_id
        save_model(model, words, out / name)
    return {name: out / name for name in names}


def sampled(folders: Folders, model: str, reference: str = "sft", seed: int = 5) -> Samples:
    return sample_model(
        folders[model], PROMPTS, samples_per_prompt=SAMPLES, sampling=SAMPLING, seed=seed,
        device="cpu", reference=folders[reference],
    )  # fmt: skip


def scored(folders: Folders, judge: str, samples: Samples, model: str) -> Any:
    return RewardScorer(folders[judge], "cpu").score(PROMPTS, samples, folders[model]).score


@torch.no_grad()
def test_samples_equal_loops_over_single_completions(
    folders: Folders, tokenizer: Any, unpadded: Any
) -> None:
    reference = load_causal_model(folders["sft"])
    encoded = encode_prompts(tokenizer, PROMPTS, 50)
    for name in ("sft", "ppo"):
        policy, samples = load_causal_model(folders[name]), sampled(folders, name)
        scores = {judge: scored(folders, judge, samples, name) for judge in SCORERS[:2]}
        assert samples.shape == (len(PROMPTS), SAMPLES)
        assert samples.prompt_ids == encoded
        assert samples.kl is not None
        for row, prompt in enumerate(encoded):
            for column, ids in enumerate(samples.token_ids[row]):
                assert samples.texts[row][column] == decode_completion(tokenizer, ids, PROMPTS[row])
                assert samples.finished[row, column] == (ids[-1] == tokenizer.eos_token_id)
                logprobs = [
                    unpadded.logprobs(model, prompt, ids, 0.6).sum()
                    for model in (policy, reference)
                ]
                kl = float(logprobs[0] - logprobs[1])
                # Ten float32 logprobs of size 10, each right to 1e-6 or so.
                assert samples.kl[row, column] == pytest.approx(kl, abs=1e-4)
                for judge, found in scores.items():
                    network = load_reward_model(folders[judge])
                    alone = float(unpadded.score(network, [*prompt, *ids]))
                    assert found[row, column] == pytest.approx(alone, abs=1e-4)
        assert np.abs(scores["judge"] - scores["reward"]).mean() > 0.1  # another model
    assert np.abs(samples.kl).mean() > 1.0  # the second policy is another one


def test_a_reference_has_no_divergence_from_itself(folders: Folders) -> None:
    assert (sampled(folders, "sft").kl == 0.0).all()


def test_there_is_no_divergence_between_models_of_other_tokens(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    assert sampled(folders, "ppo", reference="wide").kl is None
    assert "the tokenizers of" in caplog.text


def test_equal_models_get_equal_samples_and_seeds_differ(folders: Folders, tmp_path: Path) -> None:
    save_model(load_causal_model(folders["sft"]), load_tokenizer(folders["sft"]), tmp_path)
    both = folders | {"copy": tmp_path}
    sft, other = sampled(both, "sft"), sampled(both, "copy")
    assert sft.texts == other.texts
    assert (scored(both, "reward", sft, "sft") == scored(both, "reward", other, "copy")).all()
    assert other.kl is not None
    assert np.abs(other.kl).max() < 1e-6
    assert sampled(both, "sft", seed=6).texts != sft.texts
    assert len({text for row in sft.texts for text in row}) > len(PROMPTS)  # samples differ


def test_a_reward_model_of_other_tokens_reads_the_text(folders: Folders, unpadded: Any) -> None:
    samples = sampled(folders, "ppo")
    found = scored(folders, "wide-judge", samples, "ppo")
    tokenizer, network = (
        load_tokenizer(folders["wide-judge"]), load_reward_model(folders["wide-judge"]),
    )  # fmt: skip
    for row, prompt in enumerate(encode_prompts(tokenizer, PROMPTS, 50)):
        for column, text in enumerate(samples.texts[row]):
            ids = [*prompt, *encode_texts(tokenizer, [text])[0]]
            ids += [tokenizer.eos_token_id] if samples.finished[row, column] else []
            wanted = float(unpadded.score(network, ids[-64:]).detach())
            assert found[row, column] == pytest.approx(wanted, abs=1e-4)


def test_judges_change_nothing_in_the_samples(folders: Folders) -> None:
    here = Path()  # nothing is written
    models = {name: folders[name] for name in ("sft", "ppo")}

    def judged(*judges: str) -> Any:
        run = TrainingRun(out=here, checkpoints=here, seed=5, device="cpu", log=ignore)
        found = sample_and_score(
            models=models, prompts=PROMPTS, reward_models={one: folders[one] for one in judges},
            samples_per_prompt=SAMPLES, sampling=SAMPLING, run=run, reference=folders["sft"],
        )  # fmt: skip
        return evaluate(
            models, PROMPTS, dict.fromkeys(judges), found,
            bootstrap=Bootstrap(resamples=10, seed=0),
        ).judged  # fmt: skip

    plain, both = judged("reward"), judged("reward", "judge")
    for name in models:
        assert plain[name].samples.texts == both[name].samples.texts
        assert (plain[name].samples.kl == both[name].samples.kl).all()
        one, two = (given[name].scores["reward"].score for given in (plain, both))
        assert (one == two).all()
        assert list(both[name].scores) == ["reward", "judge"]
