"""Both engines mean the same: this process, and `quartet serve` with the same weights behind it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from models.distributed.sharding import shard
from models.errors import ParameterError, RolloutError
from models.language.config import SamplingConfig
from models.language.folders import load_causal_model, load_tokenizer, save_model
from models.language.generation import Completion, sample_completions
from models.language.reading import read_weights
from models.language.sequences import Sequences, TokenDistribution, token_logprobs
from models.rollouts import server as server_module
from models.rollouts.engine import RolloutEngine, open_engine
from models.rollouts.server import ServerEngine
from models.rollouts.weights import plain_model
from tests.models.distributed.processes import in_team
from tests.models.rollouts.served import KEY, Answer, GoBetween, Served

EOS = 1
PROMPTS = [[2, 3, 4], [5], [6, 7, 2, 2, 3], [5]]
SAMPLING = SamplingConfig(temperature=0.7, max_completion_tokens=12, min_completion_tokens=3)
Networks = Callable[..., Any]


@pytest.fixture
def engine(rollout_server: Served) -> Iterator[ServerEngine]:
    with closing(ServerEngine(rollout_server.record())) as open_one:
        yield open_one


@pytest.fixture
def go_between(rollout_server: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoBetween]:
    """Asked by impatient engines."""
    monkeypatch.setattr(server_module, "RETRIES", 2)
    monkeypatch.setattr(server_module, "PAUSE_SECONDS", 0.01)
    with closing(GoBetween(rollout_server)) as one:
        yield one


def make_actor(make_network: Networks, seed: int = 0) -> Any:
    return make_network("llama", vocab=8, seed=seed)


def sampled(engine: RolloutEngine, actor: Any, version: int = 0) -> list[Completion]:
    engine.update(actor, version)
    return engine.sample(
        PROMPTS,
        sampling=SAMPLING,
        eos_token_id=EOS,
        generator=torch.Generator().manual_seed(4),
    )


def by_hand(actor: Any) -> list[Completion]:
    """Each row alone, with the seed that the server gets for it."""
    seeds = torch.randint(2**53, (len(PROMPTS),), generator=torch.Generator().manual_seed(4))
    return [
        sample_completions(
            actor,
            [prompt],
            sampling=SAMPLING,
            eos_token_id=EOS,
            generator=torch.Generator().manual_seed(int(seed)),
        )[0]
        for prompt, seed in zip(PROMPTS, seeds, strict=True)
    ]


def assert_same(got: list[Completion], wanted: list[Completion], nats: float = 1e-6) -> None:
    """Equal tokens, and logprobs as near as roundings on the way let them be."""
    for one, other in zip(got, wanted, strict=True):
        assert (one.token_ids, one.finished) == (other.token_ids, other.finished)
        assert one.logprobs == pytest.approx(other.logprobs, abs=nats)


def test_in_process_is_sample_completions(make_network: Networks) -> None:
    actor = make_actor(make_network)
    with open_engine("in_process", None) as engine:
        assert engine.exact
        got = sampled(engine, actor)
    assert got == sample_completions(
        actor,
        PROMPTS,
        sampling=SAMPLING,
        eos_token_id=EOS,
        generator=torch.Generator().manual_seed(4),
    )


def test_server_samples_rows_as_this_process_does_with_their_seeds(
    make_network: Networks, engine: ServerEngine
) -> None:
    for seed in (0, 1):  # and takes new weights each time
        actor = make_actor(make_network, seed)
        got = sampled(engine, actor, version=seed)
        assert_same(got, by_hand(actor))
        assert len({tuple(one.token_ids) for one in got}) > 1
        sequences = Sequences.from_lists(PROMPTS, [one.token_ids for one in got])
        with torch.no_grad():
            recomputed = token_logprobs(
                actor, sequences, distribution=TokenDistribution.of(SAMPLING, EOS)
            ).logprobs
        for one, row in zip(got, recomputed, strict=True):
            assert one.logprobs == pytest.approx(row[: len(one.logprobs)].tolist(), abs=1e-4)
            assert len(one.token_ids) >= 3


def test_weights_are_removed_from_the_folder_once_they_are_loaded(
    make_network: Networks, engine: ServerEngine, rollout_server: Served
) -> None:
    engine.update(make_actor(make_network), 0)
    assert not list(rollout_server.folder.iterdir())


def test_an_actor_with_an_adapter_goes_merged_and_stays_what_it_is(
    make_network: Networks, engine: ServerEngine, tmp_path: Path
) -> None:
    for family in ("llama", "gpt2"):
        actor = make_network(family, vocab=8)
        actor.add_adapter(LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
        for name, weight in actor.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        before = {name: tensor.clone() for name, tensor in actor.state_dict().items()}
        plain_model(actor).save_pretrained(tmp_path / family)
        plain = read_weights(AutoModelForCausalLM, tmp_path / family, "model", remedy="")
        ids = torch.tensor([PROMPTS[0]])
        with torch.no_grad():
            ours, theirs = plain(ids).logits, actor(ids).logits
            actor.disable_adapters()
            bare = actor(ids).logits
            actor.enable_adapters()
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        assert (ours - bare).abs().max() > 0.01
        assert not [name for name in plain.state_dict() if "lora" in name or "base_layer" in name]
        after = actor.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        if family == "llama":
            assert_same(sampled(engine, actor), by_hand(actor), nats=1e-4)


# --- what goes wrong ------------------------------------------------------------------------------


def test_weights_of_another_run_are_noticed(
    make_network: Networks, engine: ServerEngine, rollout_server: Served
) -> None:
    actor = make_actor(make_network)
    engine.update(actor, 0)
    with closing(ServerEngine(rollout_server.record())) as other:
        other.update(actor, 0)
    with pytest.raises(RolloutError, match=r"an answer of the rollout server at .* another run"):
        engine.sample(PROMPTS, sampling=SAMPLING, eos_token_id=EOS, generator=torch.Generator())


def test_a_wrong_key_is_refused_and_never_said(
    make_network: Networks, rollout_server: Served, tmp_path: Path
) -> None:
    wrong = tmp_path / "key"
    wrong.write_text("not-this-one", encoding="ascii")
    for key_file, state in ((wrong, "it is set"), (None, "it is not set")):
        record = rollout_server.record(key_file=key_file)
        with closing(ServerEngine(record)) as engine, pytest.raises(RolloutError) as caught:
            engine.update(make_actor(make_network), 0)
        assert "status 401" in str(caught.value)
        assert state in str(caught.value)
        assert "not-this-one" not in str(caught.value)
    with pytest.raises(ParameterError, match="cannot be read"):
        ServerEngine(rollout_server.record(key_file=tmp_path / "none"))


def test_a_server_that_is_gone_is_an_error_after_retries(
    make_network: Networks, go_between: GoBetween
) -> None:
    with closing(ServerEngine(go_between.record)) as engine:
        engine.update(make_actor(make_network), 0)
        go_between.close()
        with pytest.raises(RolloutError, match="did not answer in 3 attempts") as caught:
            engine.sample(PROMPTS, sampling=SAMPLING, eos_token_id=EOS, generator=torch.Generator())
    assert "resumes" in str(caught.value)


def test_a_busy_server_is_asked_again(make_network: Networks, go_between: GoBetween) -> None:
    statuses = [429, 503]

    def busy_at_first(path: str, answer: Answer) -> Answer:
        return (statuses.pop(), {}) if statuses and path.startswith("/v1") else answer

    go_between.meddle = busy_at_first
    actor = make_actor(make_network)
    with closing(ServerEngine(go_between.record)) as engine:
        assert_same(sampled(engine, actor), by_hand(actor))
    assert not statuses
    assert len(go_between.asked) == 1 + len(PROMPTS) + 2


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda choice: choice.pop("logprobs"), "lacks token_ids"),
        (lambda choice: choice["token_ids"].append(2), "logprobs for|after EOS|13 tokens"),
        (lambda choice: choice["token_ids"].__setitem__(0, 8), "outside 0 to 7"),
    ],
)
def test_damaged_answers_end_the_sampling(
    make_network: Networks, go_between: GoBetween, damage: Callable[[Any], Any], said: str
) -> None:
    def meddle(path: str, answer: Answer) -> Answer:
        if "choices" in answer[1]:
            damage(answer[1]["choices"][0])
        return answer

    go_between.meddle = meddle
    with (
        closing(ServerEngine(go_between.record)) as engine,
        pytest.raises(RolloutError, match=said),
    ):
        sampled(engine, make_actor(make_network))


def test_a_server_is_wanted_and_none_is_known() -> None:
    with pytest.raises(ParameterError, match="QUARTET_ROLLOUT_SERVER"), open_engine("server", None):
        pass


def test_nccl_needs_vllm_and_says_so(make_network: Networks, rollout_server: Served) -> None:
    record = rollout_server.record(weights="nccl")
    with closing(ServerEngine(record)) as engine, pytest.raises(ParameterError, match="vLLM"):
        engine.update(make_actor(make_network), 0)


# --- what the server lets happen to its weights ---------------------------------------------------


def ask(server: Served, path: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.post(server.url + path, json=body, headers=headers, timeout=60)


def complete(server: Served) -> Any:
    reply = ask(
        server, "/v1/completions", prompt=[2, 3], max_tokens=6, seed=5, logprobs=0,
        return_token_ids=True,
    )  # fmt: skip
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_server_loads_weights_below_its_folder_only_and_only_such_that_fit(
    make_network: Networks, engine: ServerEngine, rollout_server: Served, eight_words: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    engine.update(make_actor(make_network), 0)
    before = complete(rollout_server)
    folder, tokenizer = rollout_server.folder, load_tokenizer(eight_words)
    save_model(make_network("llama", vocab=9), tokenizer, folder / "other_size")
    save_model(make_network("gpt2", vocab=8), tokenizer, folder / "other_kind")
    save_model(make_actor(make_network, 1), tokenizer, folder / "fits")
    (folder / "link").symlink_to(eight_words)
    (folder / "linked").mkdir()
    for path in eight_words.iterdir():
        (folder / "linked" / path.name).symlink_to(path)
    torn = folder / "torn"
    save_model(make_actor(make_network), tokenizer, torn)
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    for path, said in (
        (eight_words, "outside"),
        (folder / "fits" / ".." / ".." / "home", "outside"),
        (folder / "link", "outside"),
        (folder / "linked", "outside"),
        (folder / "nothing", "cannot be read"),
        (torn, "torn"),
        (folder / "other_size", "differs from the served one"),
        (folder / "other_kind", "differs from the served one"),
        ("a\0b", "no folder"),
    ):
        reply = ask(rollout_server, "/update_weights_from_disk", model_path=str(path))
        assert reply.status_code == 400, reply.text
        assert said in reply.json()["error"]["message"]
    after = complete(rollout_server)
    assert after["choices"] == before["choices"]
    assert after["metadata"] == before["metadata"]
    fits = {"model_path": str(folder / "fits"), "weight_version": "mine"}
    assert ask(rollout_server, "/update_weights_from_disk", **fits).json()["success"]
    assert complete(rollout_server)["metadata"] == {"weight_version": "mine"}
    assert complete(rollout_server)["choices"] != before["choices"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": [8]}, "token id 8 is none of the model's 8"),
        ({"stop_token_ids": [9]}, "token id 9"),
        ({"prompt": [2] * 60}, "exceed the model's context of 64"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"min_tokens": 6}, "min_tokens 6"),
        ({"top_p": 0.9}, "top_p"),
        ({"top_k": 5}, "top_k"),
        ({"temperature": 0.0}, "temperature"),
        ({"seed": None}, "seed"),
        ({"model": "another"}, "there is no model"),
    ],
)
def test_server_refuses_token_requests_that_it_cannot_serve(
    rollout_server: Served, changes: dict[str, Any], said: str
) -> None:
    body: dict[str, Any] = {"prompt": [2], "max_tokens": 6, "seed": 5, "logprobs": 0}
    reply = ask(rollout_server, "/v1/completions", **body | {"return_token_ids": True} | changes)
    assert reply.status_code in (400, 404)
    assert said in reply.json()["error"]["message"]


# --- in a team ------------------------------------------------------------------------------------


def sample_in_a_team(model: str, record: str) -> tuple[list[Completion], str]:
    """What a member gets, and what it is told once the server refuses."""
    from models.rollouts.config import RolloutServer

    server = RolloutServer.model_validate_json(record)
    with closing(ServerEngine(server)) as engine:
        completions = sampled(engine, shard(load_causal_model(Path(model))))
    with closing(ServerEngine(server.model_copy(update={"key_file": None}))) as engine:
        try:
            engine.update(load_causal_model(Path(model)), 1)
        except RolloutError as error:
            return completions, str(error)
    return completions, ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        {},
        pytest.param({"sharding": "full"}, marks=pytest.mark.campaign),
        pytest.param({"tensor_parallel": 2}, marks=pytest.mark.campaign),
    ],
)
def test_in_a_team_one_asks_and_all_know(
    rollout_server: Served, eight_words: Path, tmp_path: Path, layout: dict[str, Any]
) -> None:
    record, model = rollout_server.record().model_dump_json(), str(eight_words)
    one, other = in_team(2, sample_in_a_team, model, record, scratch=tmp_path, **layout)
    assert one == other
    assert_same(one[0], by_hand(load_causal_model(eight_words)))
    assert "status 401" in one[1]
