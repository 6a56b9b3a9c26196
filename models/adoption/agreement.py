"""What models from elsewhere leave open: which token ends a turn, how far a context goes."""

import logging
from typing import Any

from models.errors import DataError, ModelError
from models.language.frames import ChatFrames

logger = logging.getLogger(__name__)


def keep_short_factors(source: str, config: Any) -> int:
    """Limit a model with longrope to the positions of its short factors, and return its context.

    transformers takes the long factors for a whole batch where one row in it is longer, so that
    logprobs of a row would depend on the rows beside it, and change while it is sampled.
    """
    context: int = config.max_position_embeddings
    rope = getattr(config, "rope_parameters", None) or {}
    short = rope.get("original_max_position_embeddings")
    if rope.get("rope_type") != "longrope" or not isinstance(short, int) or short >= context:
        return context
    if rope.get("factor") is None:  # would follow the context, and attention's scale with it
        rope["factor"] = context / short
    config.max_position_embeddings = short
    logger.warning(
        "%s has a context of %d tokens by two sets of rotary factors (longrope), of which one is "
        "chosen for a whole batch; it gets the context of the short ones, %d tokens, in which a "
        "row's logprobs are its own", source, context, short,
    )  # fmt: skip
    return short


def end_turns_as_the_template(source: str, model: Any, tokenizer: Any) -> None:
    """Make the token that ends the template's turns EOS, where the model ends texts with it.

    A tokenizer has one EOS, and of an instruct model that is often the end of documents, which the
    model does not write behind a turn. What a language model stops at, its config tells. A reward
    model stops at nothing: it read turns as its template ends them.
    """
    if not tokenizer.chat_template:
        return
    try:
        behind = ChatFrames(tokenizer).of(("user", "assistant", "user"))[2]
    except (DataError, ModelError):  # a template of single turns, or none that can be used
        return
    ends = _special(tokenizer) if hasattr(model, "score") else _stops(model)
    if behind and behind[0] in ends - {tokenizer.eos_token_id}:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(behind[0])
        logger.info("%s ends its turns with %s, which is its EOS here", source, tokenizer.eos_token)


def _special(tokenizer: Any) -> set[int]:
    return {one for one, token in tokenizer.added_tokens_decoder.items() if token.special}


def _stops(model: Any) -> set[int]:
    """The tokens at which the model's own settings end a completion."""
    found: set[int | None] = set()
    for settings in (model.config, getattr(model, "generation_config", None)):
        ids = getattr(settings, "eos_token_id", None)
        found |= set(ids) if isinstance(ids, list | tuple) else {ids}
    return {one for one in found if one is not None}
