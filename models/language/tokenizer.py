"""The tokenizer: trained here, and the one place where prompts and completions become token ids.

First stage of the pipeline; every later one encodes through this module, so that SFT, reward
model, PPO and evaluation see the same ids for the same text.

What differs from the usual:
- Byte-level BPE, WordPiece or Unigram on bytes without a normaliser, so that any Unicode text comes
  back exactly; see `models/families/vocabularies.py`.
- Pad is a token of its own: with pad equal to EOS, the EOS silently drops out of losses.
- Text of users never becomes a special token: "<|eos|>" in a prompt is seven characters. Only the
  chat template's own text is read with special tokens.
- Prompt and completion are encoded apart, as they are when the model generates. A completion is
  its text and then EOS, whatever a template would put behind it. Where a tokenizer puts a space
  before texts, pieces have it where the whole would (`models/spaces.py`).
- A prompt that is too long loses its oldest messages first, the system's last of them, and only
  then the beginning of the newest one; role tokens and the generation prompt stay.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from transformers import PreTrainedTokenizerFast

from models.errors import DataError, ParameterError
from models.families.vocabularies import learn_vocabulary, training_texts
from models.language.config import TokenizerConfig
from models.language.frames import ChatFrames, PromptTokens, fit_text
from models.language.rendering import TODAY
from models.rows import iterate_rows
from models.spaces import Join, added_space, decode_joined, encode_joined
from models.token_files import open_tokens, plain_backend

Messages: TypeAlias = list[dict[str, str]]

NO_LIMIT = 2**31 - 1
"""Of the tokens of a prompt."""

PAD_TOKEN = "<|pad|>"
EOS_TOKEN = "<|eos|>"
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")
MASKING_TOKENS = {"mask_token": "<|mask|>", "cls_token": "<|cls|>", "sep_token": "<|sep|>"}
"""Of the networks that learn from masked tokens, and BERT's around its texts."""

# The generation markers tell TRL which tokens an assistant wrote: the content and its EOS.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}
{%- elif message['role'] in ['system', 'user'] -%}
{{- '<|' + message['role'] + '|>' + message['content'] -}}
{%- else -%}
{{- raise_exception('role must be system, user or assistant, got ' + message['role']) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def train_tokenizer(
    *, corpus: Path, config: TokenizerConfig, context: int, out: Path, cache: Path | None = None
) -> dict[str, float]:
    """Train a tokenizer on the corpus and save it as a folder.

    The corpus is read as a stream; of a huge one, part is learned from: see `training_texts`.

    Args:
        corpus: Rows with `text`.
        context: Most tokens of one sequence, recorded as `model_max_length`.
        cache: Folder for the corpus as tokens, named after its contents; see `open_tokens`.

    Returns:
        Vocabulary size, and bytes a token on the corpus.

    Raises:
        DataError: The corpus holds no text.
    """
    masking = MASKING_TOKENS.values() if config.mask else ()
    if not any(row["text"] for row in iterate_rows(corpus)):
        raise DataError(f"{corpus} holds no text; a tokenizer needs some, give a corpus with rows")
    backend = learn_vocabulary(
        config.kind,
        partial(training_texts, corpus),
        size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[PAD_TOKEN, EOS_TOKEN, *ROLE_TOKENS, *masking],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        extra_special_tokens=list(ROLE_TOKENS),
        **(MASKING_TOKENS if config.mask else {}),
        model_max_length=context,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(out)
    tokens = open_tokens(tokenizer, corpus, cache)
    return {
        "tokenizer/vocab_size": float(len(tokenizer)),
        "tokenizer/bytes_per_token": tokens.text_bytes / (tokens.tokens - tokens.documents),
    }


def encode_texts(
    tokenizer: Any, texts: Sequence[str], joins: Sequence[Join] | None = None
) -> list[list[int]]:
    """Encode texts as they stand: nothing is added, and no part becomes a special token.

    All of torch's threads encode, where there are texts for them.

    Args:
        joins: To what is before each text; without any they are texts of their own.
    """
    return encode_joined(tokenizer, texts, joins or [Join()] * len(texts))


def encoding_identity(tokenizer: Any) -> str:
    """All that the ids of texts, prompts and completions depend on."""
    state = [plain_backend(tokenizer).to_str(), tokenizer.chat_template, tokenizer.eos_token_id]
    state += [tokenizer("")["input_ids"]]
    state += [] if added_space(tokenizer) == "never" else ["joined"]
    state += [str(TODAY)] if "strftime_now" in str(tokenizer.chat_template) else []
    return json.dumps(state)


def encode_completion(tokenizer: Any, completion: str | Messages) -> list[int]:
    """Encode one completion: its text, then EOS."""
    return encode_completions(tokenizer, [completion])[0]


def encode_completions(tokenizer: Any, completions: Sequence[str | Messages]) -> list[list[int]]:
    """Encode completions, each behind its prompt: its text, then EOS.

    Raises:
        DataError: A conversational completion is not exactly one assistant message.
    """
    texts = [_completion_text(completion) for completion in completions]
    joins = _completion_joins(tokenizer, completions)
    return [[*ids, tokenizer.eos_token_id] for ids in encode_texts(tokenizer, texts, joins)]


def _completion_joins(tokenizer: Any, forms: Sequence[str | Messages]) -> list[Join]:
    """How completions are joined to their prompts: said ones (not strings) as the template does."""
    inside = Join(begins=added_space(tokenizer) == "never")
    said = [not isinstance(one, str) for one in forms]
    turn = ChatFrames(tokenizer).completion_join() if any(said) else inside
    return [turn if one else inside for one in said]


def encode_turns(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Encode what an assistant says, without the EOS behind it."""
    said = encode_completions(tokenizer, [as_completion([], text) for text in texts])
    return [ids[:-1] for ids in said]


def as_completion(prompt: str | Messages, text: str) -> str | Messages:
    """Give a completion the form of its prompt."""
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]


def decode_completion(tokenizer: Any, token_ids: Sequence[int], prompt: str | Messages) -> str:
    """Decode one sampled completion; see `decode_completions`."""
    return decode_completions(tokenizer, [token_ids], [prompt])[0]


def decode_completions(
    tokenizer: Any, completions: Sequence[Sequence[int]], prompts: Sequence[str | Messages]
) -> list[str]:
    """Turn sampled completions, each behind its prompt, into text, up to their first EOS.

    A role or pad token that the model put inside is shown, not hidden: it is a fault to be seen.
    """
    eos, joins = tokenizer.eos_token_id, _completion_joins(tokenizer, prompts)
    ids = [list(one[: list(one).index(eos)] if eos in one else one) for one in completions]
    return decode_joined(tokenizer, ids, joins)


def encode_prompt(tokenizer: Any, prompt: str | Messages, max_tokens: int) -> list[int]:
    """Encode one prompt; see `encode_prompts`."""
    return encode_prompts(tokenizer, [prompt], max_tokens)[0]


def encode_prompts(
    tokenizer: Any, prompts: Sequence[str | Messages], max_tokens: int | Sequence[int]
) -> list[list[int]]:
    """Encode prompts to their token ids; see `lay_out_prompts`."""
    return [prompt.ids for prompt in lay_out_prompts(tokenizer, prompts, max_tokens)]


def lay_out_prompts(
    tokenizer: Any, prompts: Sequence[str | Messages], max_tokens: int | Sequence[int]
) -> list[PromptTokens]:
    """Encode prompts, ready to be continued by a completion, shortened from the left to fit.

    A string is encoded plainly (after the BOS of a tokenizer that begins texts with one);
    messages are rendered by the chat template with its generation prompt.

    Args:
        max_tokens: Most tokens of a prompt, one number for all or one for each.

    Raises:
        ParameterError: A limit below one token.
        ModelError: Messages were given, but the tokenizer has no usable chat template.
        DataError: The chat template refuses the messages.
    """
    limits = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else list(max_tokens)
    if limits and min(limits) < 1:
        raise ParameterError(
            f"a prompt may have at most {min(limits)} tokens, wanted at least 1; "
            "shorten the completion or take a model with a longer context"
        )
    frames = ChatFrames(tokenizer)
    contents = encode_contents(tokenizer, prompts, frames)
    leading = _leading_ids(tokenizer)
    encoded, start = [], 0
    for prompt, limit in zip(prompts, limits, strict=True):
        own = contents[start : start + len(_texts(prompt))]
        start += len(own)
        if isinstance(prompt, str):
            encoded.append(fit_text(leading, own[0], limit))
        else:
            encoded.append(frames.fit(tuple(one["role"] for one in prompt), own, limit))
    return encoded


def encode_contents(
    tokenizer: Any, prompts: Sequence[str | Messages], frames: ChatFrames
) -> list[list[int]]:
    """Encode what prompts have of people: contents of messages, and prompts that are strings."""
    joins: list[Join] = []
    for prompt in prompts:
        if isinstance(prompt, str):
            joins.append(Join())
        else:
            joins += frames.joins(tuple(one["role"] for one in prompt))
    return encode_texts(tokenizer, [text for one in prompts for text in _texts(one)], joins)


def _leading_ids(tokenizer: Any) -> list[int]:
    """The BOS with which this tokenizer begins every text, if it has one."""
    added = tokenizer("")["input_ids"]
    return [added[0]] if added and added[0] == tokenizer.bos_token_id else []


def _texts(prompt: str | Messages) -> list[str]:
    return [prompt] if isinstance(prompt, str) else [message["content"] for message in prompt]


def _completion_text(completion: str | Messages) -> str:
    if isinstance(completion, str):
        return completion
    if len(completion) != 1 or completion[0]["role"] != "assistant":
        roles = [message["role"] for message in completion]
        raise DataError(
            f"a completion has messages with roles {roles}, wanted one of the assistant; "
            "move the earlier messages into the prompt"
        )
    return completion[0]["content"]
