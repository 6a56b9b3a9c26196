"""Tokenizers that put a space before texts: pieces together are what the whole would be."""

from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from models.language.tokenizer import (
    decode_completion,
    encode_completion,
    encode_prompt,
    encode_texts,
)
from models.spaces import added_space

CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ok then"},
    {"role": "user", "content": "Hi <end> Hi"},
]
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = LLAMA.replace("' ' + m.content + ' ' + eos", "m.content + eos")
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
DIRECT = (
    "{% for m in messages %}{{ '<start>' + m.content + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<start>{% endif %}"
)


def _like_llama(space: str, template: str = "") -> Any:
    """Llama-2's tokenizer in miniature, with the space as `Prepend` or a scheme of Metaspace."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocab |= {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    merges = [("H", "i"), ("▁", "Hi"), ("▁", "["), ("▁", "O"), ("▁O", "k"), ("▁", "▁")]
    for word in ("▁", *map(chr, range(33, 127)), *map("".join, merges)):
        vocab[word] = len(vocab)
    backend = Tokenizer(BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    backend.normalizer = replace
    if space == "Prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=space, split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.add_tokens([AddedToken("<end>", normalized=False)])
    backend.add_special_tokens([AddedToken("<start>", normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = template or None
    return tokenizer


@pytest.mark.parametrize("space", ["Prepend", "first", "always"])
@pytest.mark.parametrize("template", [LLAMA, MISTRAL, ZEPHYR, DIRECT])
def test_prompt_and_completion_are_the_whole_conversation(space: str, template: str) -> None:
    tokenizer = _like_llama(space, template)
    said = [{"role": "assistant", "content": "Ok"}]
    prompt, completion = encode_prompt(tokenizer, CHAT, 999), encode_completion(tokenizer, said)
    asked = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]
    whole = tokenizer.apply_chat_template(CHAT + said)["input_ids"]
    assert prompt == asked
    assert (prompt + completion[:-1]) == whole[: len(prompt + completion) - 1]


@pytest.mark.parametrize("space", ["Prepend", "first", "always"])
def test_a_plain_prompt_and_its_completion_are_the_whole_text(space: str) -> None:
    tokenizer = _like_llama(space)
    prompt, completion = encode_prompt(tokenizer, "Say", 999), encode_completion(tokenizer, " Hi")
    assert prompt + completion == [*tokenizer("Say Hi")["input_ids"], tokenizer.eos_token_id]
    glued = encode_completion(tokenizer, "Hi")
    assert tokenizer.convert_ids_to_tokens(glued) == ["Hi", "</s>"]
    assert encode_texts(tokenizer, ["Say Hi"]) == [tokenizer("Say Hi")["input_ids"]]


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ({}, "never"),
        ({"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False)}, "never"),
        ({"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)}, "always"),
        ({"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="never")}, "never"),
        ({"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first")}, "first"),
        ({"normalizer": normalizers.Prepend("▁")}, "always"),
    ],
)
def test_where_a_tokenizer_puts_a_space_is_read_off_its_steps(
    steps: dict[str, Any], where: str
) -> None:
    backend = Tokenizer(BPE())
    for name, step in steps.items():
        setattr(backend, name, step)
    assert added_space(PreTrainedTokenizerFast(tokenizer_object=backend)) == where


@pytest.mark.parametrize("space", ["Prepend", "first", "always"])
@pytest.mark.parametrize("template", [LLAMA, MISTRAL, ZEPHYR, DIRECT, ""])
@pytest.mark.parametrize("text", ["Ok", " Ok", "  Hi Ok", "é", ""])
@pytest.mark.parametrize("strips", [False, True])
def test_a_completion_is_the_text_that_was_encoded(
    space: str, template: str, text: str, strips: bool
) -> None:
    """Library decoders drop a space at the beginning, which may be the text's."""
    tokenizer = _like_llama(space, template)
    if strips:  # as Llama-2's does
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        tokenizer.backend_tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1)])
    said = [{"role": "assistant", "content": text}] if template else text
    ids = encode_completion(tokenizer, said)
    if (space, template) == ("always", DIRECT):  # Metaspace has its own where there is none yet
        text = text.removeprefix(" ")
    assert decode_completion(tokenizer, ids, CHAT if template else "Say") == text
