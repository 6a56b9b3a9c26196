"""Judges that give numbers: reward models, the gold rule, sentiment; and what they refuse."""

import builtins
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import DataError, ParameterError
from models.evaluation.config import EndpointConfig, EvaluateModelsConfig
from models.evaluation.measures import ModelSamples, measure, repeated_share
from tasks.judging.judges import GoldJudge, PairwiseJudge, VaderJudge, make_judges

PLURAL = "What is the plural of box?"
RIGHT = "The plural of box is boxes."


def said(texts: Sequence[Sequence[str]], finished: bool = True) -> ModelSamples:
    shape = (len(texts), len(texts[0]))
    return ModelSamples(
        texts=texts,
        prompt_ids=[[1] for _ in texts],
        token_ids=[[[2, 3] for _ in row] for row in texts],
        finished=np.full(shape, finished),
    )


def test_gold_judge_scores_by_the_worlds_rule() -> None:
    prompts = [[{"role": "user", "content": PLURAL}], "What is the plural of fox?"]
    texts = [[RIGHT, f"What a pleasure to talk to you! {RIGHT}"], ["nonsense", RIGHT]]
    found = GoldJudge(prompts).score(prompts, said(texts), Path())
    # correct * (0.5 + 0.25 tone + 0.25 brevity): neutral tone is 0.5, polite 1
    assert found.tolist() == [[0.875, 1.0], [0.0, 0.0]]
    cut = GoldJudge(prompts).score(prompts, said(texts, finished=False), Path())
    assert cut.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_gold_judge_refuses_prompts_of_another_world() -> None:
    with pytest.raises(DataError, match="got 1 of 2 others, such as 'Who are you"):
        GoldJudge([PLURAL, "Who are you?"])


def test_vader_tells_praise_from_blame() -> None:
    found = VaderJudge().score(["p"], said([["A wonderful film!", "A horrible film.", ""]]), Path())
    good, bad, nothing = found[0]
    assert good > 0.5
    assert bad < -0.4
    assert nothing == 0.0


def test_vader_says_how_to_get_it_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *args: Any) -> Any:
        if name.startswith("vaderSentiment"):
            raise ImportError(name)
        return builtins.__import__(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ParameterError, match="pip install vaderSentiment"):
        VaderJudge()


def test_a_judge_without_its_model_is_refused(tmp_path: Path) -> None:
    config = EvaluateModelsConfig(judges=["judge"])
    with pytest.raises(ParameterError, match="no judge model was given"):
        make_judges(config, ["p"], reward_models={}, device="cpu", answers=tmp_path)


def test_judges_are_made_as_they_are_named(tmp_path: Path) -> None:
    endpoint = EndpointConfig(url="http://127.0.0.1:9/v1/", model="m")
    config = EvaluateModelsConfig(judges=["gold", "vader", "endpoint"], endpoint=endpoint)
    made = make_judges(config, [PLURAL], reward_models={}, device="cpu", answers=tmp_path)
    assert [isinstance(one, PairwiseJudge) for one in made.values()] == [False, False, True]
    assert list(made) == config.judges


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"judges": ["gold", "gold"]}, "twice"),
        ({"judges": ["endpoint"]}, "give both"),
        ({"endpoint": {"url": "http://me:secret@host/v1"}}, "without user and password"),
        ({"endpoint": {"url": "host:80"}}, "no http"),
        ({"endpoint": {"api_key_env": "sk-not-a-name"}}, "pattern"),
        ({"judges": ["me"]}, "Input should be"),
    ],
)
def test_config_refuses_what_no_judge_can_do(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateModelsConfig.model_validate(told)


# --- measures -----------------------------------------------------------------------------------


def test_repeated_share_counts_four_grams_said_before() -> None:
    # a b a b a b: abab, baba, abab -> 2 distinct of 3
    assert repeated_share(["a", "b", "a", "b", "a", "b"]) == pytest.approx(1 / 3)
    assert repeated_share(["a", "b", "c", "d", "e"]) == 0.0
    assert repeated_share(["a"]) == 0.0


def test_measures_average_within_prompts_and_bound_over_prompts() -> None:
    texts = [["a b c", "a b c"], ["d", "e f"]]
    scores = {"gold": np.array([[1.0, 0.0], [0.0, 0.0]])}
    found = measure(said(texts), scores, resamples=200, seed=0)
    assert found["gold_score"].mean == 0.25
    assert (found["gold_score"].low, found["gold_score"].high) == (0.0, 0.5)  # prompts: 0.5 and 0
    assert found["words"].mean == (3 + 3 + 1 + 2) / 4
    assert found["length"].mean == 2.0
    assert found["eos_rate"].mean == 1.0
    # bigrams: ab bc ab bc ef -> 3 of 5; texts: 3 of 4
    assert found["distinct_2"].mean == pytest.approx(0.6)
    assert found["unique_share"].mean == 0.75
    assert "kl_to_reference" not in found


def test_samples_refuse_unequal_numbers() -> None:
    with pytest.raises(DataError, match="the same number"):
        said([["a", "b"], ["c"]])


# --- reward models, and KL ----------------------------------------------------------------------

Models = Callable[..., Path]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Make untrained models on one of two tokenizers."""
    from models.language.architectures import build_model
    from models.language.config import ArchitectureConfig, TokenizerConfig
    from models.language.folders import load_tokenizer, new_reward_model, save_model
    from models.language.tokenizer import train_tokenizer
    from models.rows import write_rows

    root = tmp_path_factory.mktemp("tiny")
    corpora = {300: "the cat sat on the mat and slept", 310: "a dog ran home over the old hill"}

    def make(name: str, *, seed: int, vocab: int = 300, reward: bool = False) -> Path:
        words = root / f"tokenizer-{vocab}"
        if not words.exists():
            config = TokenizerConfig(vocab_size=vocab)
            corpus = root / f"corpus-{vocab}.jsonl"
            write_rows(corpus, [{"text": corpora[vocab]}] * 9)
            train_tokenizer(corpus=corpus, config=config, context=48, out=words)
        tokenizer = load_tokenizer(words)
        architecture = ArchitectureConfig(layers=1, width=16, heads=2, context=48)
        model = build_model(architecture, tokenizer, seed=seed)
        for weights in model.parameters():
            weights.data.mul_(4.0)  # else all distributions are flat
        save_model(model, tokenizer, root / name)
        if reward:
            save_model(new_reward_model(root / name, seed=seed), tokenizer, root / f"{name}-r")
        return root / (f"{name}-r" if reward else name)

    return make


def sampled(model: Path, **changes: Any) -> ModelSamples:
    from models.evaluation.model_samples import sample_model
    from models.language.config import SamplingConfig

    return sample_model(
        model, ["the cat", "and slept"], samples_per_prompt=3,
        sampling=SamplingConfig(max_completion_tokens=6, temperature=0.8), seed=3, device="cpu",
        **changes,
    )  # fmt: skip


def test_kl_is_the_summed_log_ratio_of_the_tokens(tiny: Models) -> None:
    import torch

    from models.language.folders import load_causal_model

    model, other = tiny("policy", seed=0), tiny("other", seed=1)
    found = sampled(model, reference=other)
    assert found.kl is not None
    assert (sampled(model, reference=model).kl == 0.0).all()
    networks = [load_causal_model(one) for one in (model, other)]
    for row, prompt in enumerate(found.prompt_ids):
        for column, ids in enumerate(found.token_ids[row]):
            sums = []
            for network in networks:
                with torch.no_grad():
                    logits = network(torch.tensor([[*prompt, *ids]])).logits[0].double() / 0.8
                rows = logits[len(prompt) - 1 : -1].log_softmax(-1)
                sums.append(sum(float(line[token]) for line, token in zip(rows, ids, strict=True)))
            assert found.kl[row, column] == pytest.approx(sums[0] - sums[1], abs=1e-3)
    assert np.abs(found.kl).max() > 0.1


def test_there_is_no_kl_between_models_of_other_tokens(tiny: Models, caplog: Any) -> None:
    found = sampled(tiny("policy", seed=0), reference=tiny("wide", seed=0, vocab=310))
    assert found.kl is None
    assert "tokenizers" in caplog.text


def test_reward_scores_are_those_of_the_network_for_the_sampled_tokens(tiny: Models) -> None:
    import torch

    from models.evaluation.model_samples import RewardScorer
    from models.language.folders import load_reward_model

    model, reward = tiny("policy", seed=0), tiny("judge", seed=2, reward=True)
    samples = sampled(model)
    found = RewardScorer(reward, "cpu").score(["the cat", "and slept"], samples, model)
    network = load_reward_model(reward)
    for row, prompt in enumerate(samples.prompt_ids):
        for column, ids in enumerate(samples.token_ids[row]):
            with torch.no_grad():
                wanted = network(torch.tensor([[*prompt, *ids]])).logits[0, 0]
            assert found[row, column] == pytest.approx(float(wanted), abs=1e-4)


def test_reward_model_of_other_tokens_reads_the_text(tiny: Models) -> None:
    import torch

    from models.evaluation.model_samples import RewardScorer
    from models.language.folders import load_reward_model, load_tokenizer
    from models.language.tokenizer import encode_prompts, encode_texts

    model, reward = tiny("policy", seed=0), tiny("wide-judge", seed=2, vocab=310, reward=True)
    samples = sampled(model)
    found = RewardScorer(reward, "cpu").score(["the cat", "and slept"], samples, model)
    tokenizer, network = load_tokenizer(reward), load_reward_model(reward)
    ids = encode_prompts(tokenizer, ["the cat"], 40)[0]
    ids += encode_texts(tokenizer, [samples.texts[0][0]])[0]
    ids += [tokenizer.eos_token_id] if samples.finished[0, 0] else []
    with torch.no_grad():
        wanted = network(torch.tensor([ids[-48:]])).logits[0, 0]
    assert found[0, 0] == pytest.approx(float(wanted), abs=1e-4)
