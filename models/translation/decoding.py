"""Targets made of sources by transformers' own beam search or sampling.

What a model's folder says of generation is not asked: BART's and Marian's configs force tokens of
their published vocabularies. Sources are decoded in batches of like length, and come back in their
order. Samples are drawn with a seed for each batch, so they do not depend on what came before.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from models.language.tokenizer import decode_completion, encode_completions
from models.randomness import derive_seed
from models.translation.config import DecodingConfig


@torch.no_grad()
def translate_texts(
    model: Any, tokenizer: Any, sources: Sequence[str], config: DecodingConfig, *, seed: int
) -> list[str]:
    """Make a target of each source.

    A source longer than the model's context loses its end.

    Returns:
        The most probable hypotheses found, or with a temperature one sample of each.
    """
    model.eval()
    model.generation_config = _settings(tokenizer, model.config, config)
    context = model.config.max_position_embeddings
    encoded = [
        ids if len(ids) <= context else [*ids[: context - 1], ids[-1]]
        for ids in encode_completions(tokenizer, sources)
    ]
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
    found: dict[int, str] = {}
    for at in range(0, len(order), config.batch_size):
        rows = order[at : at + config.batch_size]
        ids = [torch.tensor(encoded[row]) for row in rows]
        with torch.random.fork_rng(devices=_devices(model.device)):
            torch.manual_seed(derive_seed(seed, f"translate.{at}"))
            made = model.generate(
                input_ids=pad_sequence(
                    ids, batch_first=True, padding_value=tokenizer.pad_token_id
                ).to(model.device),
                attention_mask=pad_sequence(
                    [torch.ones_like(one) for one in ids], batch_first=True
                ).to(model.device),
            )
        for row, tokens in zip(rows, made[:, 1:].tolist(), strict=True):  # less the decoder's first
            found[row] = decode_completion(tokenizer, tokens, sources[row])
    return [found[row] for row in range(len(sources))]


def _settings(tokenizer: Any, network: Any, config: DecodingConfig) -> GenerationConfig:
    samples = config.temperature > 0
    beams = 1 if samples else config.beams
    chosen: dict[str, Any] = {"do_sample": samples, "num_beams": beams}
    if samples:
        chosen |= {"temperature": config.temperature, "top_k": 0}
    elif beams > 1:
        chosen |= {"length_penalty": config.length_penalty}
    return GenerationConfig(
        **chosen,
        max_new_tokens=min(config.max_tokens, network.max_position_embeddings - 1),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=network.decoder_start_token_id,
    )


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
