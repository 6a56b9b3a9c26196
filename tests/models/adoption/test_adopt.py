"""Adoption: what a model from elsewhere lacks is added, the rest stays."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from models.adoption import adopt as adoption
from models.adoption.adopt import adopt_model, adopt_reward_model
from models.errors import ModelError
from models.language.folders import (
    load_causal_model,
    load_reward_model,
    load_tokenizer,
    same_tokenizer,
)
from models.language.scoring import ScoreMoments, read_score_moments, write_score_moments
from models.language.tokenizer import (
    PAD_TOKEN,
    ROLE_TOKENS,
    encode_completion,
    encode_prompt,
    encode_texts,
)
from tests.models.adoption.tiny_models import build

CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _foreign(out: Path, *, rows: int | None = None, tied: bool = True) -> tuple[Any, Any]:
    """A GPT-2 as the hub has them: pad is EOS, no roles, no template; `rows` of embeddings."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        ["hello world"] * 4,
        BpeTrainer(
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            n_layer=1,
            n_head=2,
            n_embd=8,
            n_positions=32,
            vocab_size=rows or len(tokenizer),
            tie_word_embeddings=tied,
        )
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return model, tokenizer


@pytest.mark.parametrize("tied", [True, False])
def test_adoption_adds_pad_roles_and_template(tmp_path: Path, tied: bool) -> None:
    before, foreign = _foreign(tmp_path / "in", tied=tied)
    metrics = adopt_model(str(tmp_path / "in"), None, tmp_path / "out")
    model = load_causal_model(tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out", wants_template=True)

    known = len(foreign)
    assert metrics["adopt/added_tokens"] == 4.0  # pad and three roles
    assert metrics["adopt/vocab_size"] == len(tokenizer) == known + 4
    assert metrics["adopt/context"] == tokenizer.model_max_length == 32
    assert tokenizer.eos_token == "<|endoftext|>"
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|pad|>", known)
    for settings in (model.config, model.generation_config):
        assert settings.pad_token_id == known
        assert settings.eos_token_id == tokenizer.eos_token_id
    for old, new in (
        (before.get_input_embeddings(), model.get_input_embeddings()),
        (before.get_output_embeddings(), model.get_output_embeddings()),
    ):
        assert torch.equal(new.weight[:known], old.weight)
        mean = old.weight.double().mean(dim=0).float()
        for row in new.weight[known:]:
            torch.testing.assert_close(row, mean, rtol=0, atol=1e-7)  # float32 sums of 260 rows

    prompt = encode_prompt(tokenizer, [{"role": "user", "content": "hello"}], 32)
    assert prompt[0] == tokenizer.convert_tokens_to_ids("<|user|>")
    assert prompt[-1] == tokenizer.convert_tokens_to_ids("<|assistant|>")
    assert encode_texts(tokenizer, ["hello"]) == encode_texts(foreign, ["hello"])


def test_adoption_uses_spare_rows_of_the_embedding(tmp_path: Path) -> None:
    before, foreign = _foreign(tmp_path / "in", rows=400)
    adopt_model(str(tmp_path / "in"), None, tmp_path / "out")
    weight = load_causal_model(tmp_path / "out").get_input_embeddings().weight
    assert weight.shape == (400, 8)
    known = len(foreign)
    mean = before.get_input_embeddings().weight[:known].mean(dim=0)
    torch.testing.assert_close(weight[known + 3], mean, rtol=0, atol=1e-7)
    assert torch.equal(weight[known + 4 :], before.get_input_embeddings().weight[known + 4 :])


def test_adoption_gives_new_tokens_the_mean_bias_of_the_output_layer(tmp_path: Path) -> None:
    """A bias of 0 beside those of about -8 would make a token that nobody knows the likeliest."""
    _, foreign = _foreign(tmp_path / "in")
    model = build("phi", foreign)
    model.lm_head.bias.data.normal_(-8.0, 0.1)
    model.save_pretrained(tmp_path / "in")
    adopt_model(str(tmp_path / "in"), None, tmp_path / "out")
    known, bias = len(foreign), load_causal_model(tmp_path / "out").lm_head.bias
    assert len(bias) == known + 4  # pad and three roles
    assert torch.equal(bias[:known], model.lm_head.bias)
    mean = model.lm_head.bias.mean().expand(4)
    torch.testing.assert_close(bias[known:], mean, rtol=0, atol=1e-5)  # float32 sums of 260 rows


def test_adoption_limits_longrope_to_its_short_factors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With both sets of factors a row's logprobs depend on whether a longer one is beside it."""
    _, foreign = _foreign(tmp_path / "in")
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
        "long_factor": [4.0] * 4,
        "short_factor": [1.0] * 4,
        "original_max_position_embeddings": 16,
    }
    model = build("phi3", foreign, original_max_position_embeddings=16, rope_parameters=rope)
    model.save_pretrained(tmp_path / "in")
    metrics = adopt_model(str(tmp_path / "in"), None, tmp_path / "out")
    adopted = load_causal_model(tmp_path / "out")
    assert metrics["adopt/context"] == adopted.config.max_position_embeddings == 16.0
    assert load_tokenizer(tmp_path / "out").model_max_length == 16
    assert "context of 64 tokens by two sets" in caplog.text
    # sqrt(1 + ln(64 / 16) / ln(16)) = sqrt(1.5), as before
    assert adopted.model.rotary_emb.attention_scaling == pytest.approx(1.5**0.5, abs=1e-12)
    ids = torch.arange(16)[None]
    torch.testing.assert_close(
        adopted(ids).logits[..., : len(foreign)], model(ids).logits, rtol=0, atol=1e-6
    )  # the same sums


def _move_id(folder: Path, old: int, new: int) -> None:
    """Leave a hole in the vocabulary: one token gets another id."""
    path = folder / "tokenizer.json"
    settings = json.loads(path.read_text())
    vocab = settings["model"]["vocab"]
    word = next(word for word, one in vocab.items() if one == old)
    vocab[word] = new
    path.write_text(json.dumps(settings))


def test_adoption_counts_ids_up_to_the_highest(tmp_path: Path) -> None:
    """Ids have holes, as they do where tokens were taken out: the highest id needs a row too."""
    _, foreign = _foreign(tmp_path / "in", rows=400)
    known = len(foreign)
    _move_id(tmp_path / "in", 200, known + 20)
    metrics = adopt_model(str(tmp_path / "in"), None, tmp_path / "out")
    assert metrics["adopt/added_tokens"] == 4.0
    before, after = (
        GPT2LMHeadModel.from_pretrained(tmp_path / name).get_input_embeddings().weight
        for name in ("in", "out")
    )
    tokenizer = load_tokenizer(tmp_path / "out")
    added = sorted(tokenizer.get_vocab()[word] for word in (PAD_TOKEN, *ROLE_TOKENS))
    assert len(set(added)) == 4
    assert known + 20 not in added
    assert torch.equal(after[known + 20], before[known + 20])  # in use, so it stays
    mean = before[: known + 21].mean(dim=0)
    for one in added:
        torch.testing.assert_close(after[one], mean, rtol=0, atol=1e-7)


def test_adoption_refuses_holes_in_which_new_tokens_would_share_ids(tmp_path: Path) -> None:
    _, foreign = _foreign(tmp_path / "in", rows=400)
    _move_id(tmp_path / "in", 200, len(foreign) + 1)
    with pytest.raises(ModelError, match=r"the token ids of .* have holes .*would share theirs"):
        adopt_model(str(tmp_path / "in"), None, tmp_path / "out")


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{% for %}", "the chat template of .* cannot be used"),
        ("{{ raise_exception('no') }}", r"cannot be used \(.*no\); repair chat_template"),
        ("hello", "does not show each of 1 messages once"),
        ({"rag": CHATML, "tool_use": CHATML}, "cannot be used .*; name one of them default"),
    ],
)
def test_adoption_refuses_a_chat_template_that_cannot_be_used(
    tmp_path: Path, template: str | dict[str, str], named: str
) -> None:
    _, foreign = _foreign(tmp_path / "in")
    foreign.chat_template = template
    foreign.save_pretrained(tmp_path / "in")
    with pytest.raises(ModelError, match=named):
        adopt_model(str(tmp_path / "in"), None, tmp_path / "out")


def test_adoption_keeps_a_template_of_the_models_own(tmp_path: Path) -> None:
    _, foreign = _foreign(tmp_path / "in")
    foreign.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    foreign.chat_template = CHATML
    foreign.save_pretrained(tmp_path / "in")
    metrics = adopt_model(str(tmp_path / "in"), None, tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out", wants_template=True)
    assert metrics["adopt/added_tokens"] == 1.0  # the pad
    assert tokenizer.chat_template == CHATML
    messages = [{"role": "user", "content": "hello <|im_end|>"}]
    prompt = encode_prompt(tokenizer, messages, 64)
    assert tokenizer.decode(prompt) == (
        "<|im_start|>user\nhello <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1
    assert encode_completion(tokenizer, "hello")[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("place", ["config", "generation_config"])
def test_adoption_takes_the_end_of_turns_for_eos_where_the_model_has_several(
    tmp_path: Path, place: str
) -> None:
    model, foreign = _foreign(tmp_path / "in", rows=300)
    foreign.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    foreign.chat_template = CHATML
    foreign.save_pretrained(tmp_path / "in")
    end = foreign.convert_tokens_to_ids("<|im_end|>")
    getattr(model, place).eos_token_id = [foreign.eos_token_id, end]
    model.save_pretrained(tmp_path / "in")
    metrics = adopt_model(str(tmp_path / "in"), None, tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out", wants_template=True)
    adopted = load_causal_model(tmp_path / "out")
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert metrics["adopt/added_tokens"] == 0.0  # pad is another token than EOS now
    assert adopted.config.eos_token_id == adopted.generation_config.eos_token_id == end
    assert encode_completion(tokenizer, "hello")[-1] == end


def test_adoption_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    _foreign(tmp_path / "in")
    for name in ("a", "b"):
        adopt_model(str(tmp_path / "in"), None, tmp_path / name)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_adoption_refuses_a_folder_without_safetensors(tmp_path: Path) -> None:
    model, _ = _foreign(tmp_path / "in")
    (tmp_path / "in" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "in" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        adopt_model(str(tmp_path / "in"), None, tmp_path / "out")


def _foreign_reward(out: Path, *, labels: int = 1) -> Any:
    """The same GPT-2 with a score head, as reward models on the hub are."""
    causal, tokenizer = _foreign(out)
    config = GPT2Config(**{**causal.config.to_dict(), "num_labels": labels})
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(1)
    model = GPT2ForSequenceClassification(config)
    model.save_pretrained(out)
    return model


def test_adoption_takes_a_reward_model_that_speaks_the_tokens_of_an_adopted_sft_model(
    tmp_path: Path,
) -> None:
    before = _foreign_reward(tmp_path / "reward").eval()
    _foreign(tmp_path / "sft")
    adopt_reward_model(str(tmp_path / "reward"), None, tmp_path / "out")
    adopt_model(str(tmp_path / "sft"), None, tmp_path / "sft_out")
    model = load_reward_model(tmp_path / "out")
    assert load_tokenizer(tmp_path / "out").get_vocab() == (
        load_tokenizer(tmp_path / "sft_out").get_vocab()
    )
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(model(ids).logits, before(ids).logits, rtol=0, atol=1e-6)
    # scores are taken as they are where nobody has measured their moments
    assert read_score_moments(tmp_path / "out") == ScoreMoments(
        mean=0.0, std=1.0, raw_std=1.0, samples=0
    )


def test_a_reward_model_ends_turns_as_the_policy_of_its_family(tmp_path: Path) -> None:
    """Its config names one EOS, the end of documents; the policy's names that of turns too."""
    _foreign_reward(tmp_path / "reward")
    model, foreign = _foreign(tmp_path / "sft")
    foreign.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    foreign.chat_template = CHATML
    for name in ("reward", "sft"):
        foreign.save_pretrained(tmp_path / name)
    end = foreign.convert_tokens_to_ids("<|im_end|>")
    model.config.eos_token_id = [foreign.eos_token_id, end]
    model.save_pretrained(tmp_path / "sft")
    adopt_reward_model(str(tmp_path / "reward"), None, tmp_path / "reward_out")
    adopt_model(str(tmp_path / "sft"), None, tmp_path / "sft_out")
    assert load_tokenizer(tmp_path / "reward_out").eos_token_id == end
    assert same_tokenizer(tmp_path / "reward_out", tmp_path / "sft_out")


def test_adoption_keeps_the_moments_of_a_reward_model_trained_here(tmp_path: Path) -> None:
    _foreign_reward(tmp_path / "in")
    moments = ScoreMoments(mean=0.5, std=2.0, raw_std=2.0, samples=64)
    write_score_moments(tmp_path / "in", moments)
    adopt_reward_model(str(tmp_path / "in"), None, tmp_path / "out")
    assert read_score_moments(tmp_path / "out") == moments


def test_adoption_refuses_a_classifier_of_several_labels_as_a_reward_model(tmp_path: Path) -> None:
    _foreign_reward(tmp_path / "in", labels=2)
    with pytest.raises(ModelError, match="with 2 labels, a reward model with exactly one label"):
        adopt_reward_model(str(tmp_path / "in"), None, tmp_path / "out")


def test_adoption_refuses_a_model_of_the_other_kind(tmp_path: Path) -> None:
    _foreign(tmp_path / "causal")
    _foreign_reward(tmp_path / "reward")
    with pytest.raises(ModelError, match="a GPT2LMHeadModel, a sequence classifier"):
        adopt_reward_model(str(tmp_path / "causal"), None, tmp_path / "out")
    with pytest.raises(ModelError, match="a GPT2ForSequenceClassification, a causal"):
        adopt_model(str(tmp_path / "reward"), None, tmp_path / "out")


def test_adoption_refuses_a_reward_model_whose_head_was_never_trained(tmp_path: Path) -> None:
    model = _foreign_reward(tmp_path / "in")
    state = {name: value for name, value in model.state_dict().items() if "score" not in name}
    model.save_pretrained(tmp_path / "in", state_dict=state)
    with pytest.raises(ModelError, match=r"lack score\.weight"):
        adopt_reward_model(str(tmp_path / "in"), None, tmp_path / "out")


def test_adoption_fetches_of_the_hub_what_loading_reads_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _foreign(tmp_path / "in")
    asked: dict[str, Any] = {}

    def fetch(source: str, **given: Any) -> str:
        asked.update(given, source=source)
        return str(tmp_path / "in")

    monkeypatch.setattr(adoption, "snapshot_download", fetch)
    adopt_model("owner/model", "c0ffee", tmp_path / "out")
    assert (asked["source"], asked["revision"]) == ("owner/model", "c0ffee")
    assert "*.safetensors" in asked["allow_patterns"]
    assert not {"*.bin", "*.py", "*.pt"} & set(asked["allow_patterns"])
    monkeypatch.setattr(adoption, "snapshot_download", lambda *_, **__: 1 / 0)
    with pytest.raises(ModelError, match="as a model of the hub cannot be read"):
        adopt_model("owner/model", "c0ffee", tmp_path / "out")


def test_adoption_fetches_weights_in_a_folder_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _foreign(tmp_path / "in")
    weights = tmp_path / "in" / "model.safetensors"
    held = safe_open(weights, "np").keys()
    weights.rename(tmp_path / "part.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(held, "parts/part.safetensors")}
    (tmp_path / "in" / "model.safetensors.index.json").write_text(json.dumps(index))

    def fetch(source: str, *, allow_patterns: list[str], **given: Any) -> str:
        if allow_patterns == ["parts/part.safetensors"]:
            (tmp_path / "in" / "parts").mkdir()
            (tmp_path / "part.safetensors").rename(tmp_path / "in" / allow_patterns[0])
        return str(tmp_path / "in")

    monkeypatch.setattr(adoption, "snapshot_download", fetch)
    assert adopt_model("owner/model", "c0ffee", tmp_path / "out")["adopt/parameters"] > 0


def test_adoption_leaves_out_a_generation_config_that_is_not_valid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _foreign(tmp_path / "in")
    (tmp_path / "in" / "generation_config.json").write_text('{"do_sample": false, "top_k": -1}')
    adopt_model(str(tmp_path / "in"), None, tmp_path / "out")
    assert "generation_config.json" in caplog.text
    assert load_causal_model(tmp_path / "out").generation_config.top_k != -1
