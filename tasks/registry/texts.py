"""Texts in, texts out: what a request says of its completion, and the kept server does not do.

It seeds torch's global generator when a request arrives, while its one thread still draws for
another, and lets a completion run over the model's context.
"""

from typing import Any


def keep_seed(handler: Any) -> None:
    """Hand a request's seed on to `generate_alone`, instead of seeding when the request arrives."""
    build = handler._build_generation_config

    def build_with_seed(body: dict[str, Any], *rest: Any, **options: Any) -> Any:
        seed = body.pop("seed", None)
        config = build(body, *rest, **options)
        config.seed = seed
        return config

    handler._build_generation_config = build_with_seed


def generate_alone(model: Any) -> None:
    """Draw a completion with its own request's seed, and end it with the model's context."""
    import torch  # where there is work to do

    from models.language.chat import context_tokens

    context, generate = context_tokens(model), model.generate

    def generate_within(*, input_ids: Any, generation_config: Any, **rest: Any) -> Any:
        if not input_ids.shape[1]:
            raise ValueError("the prompt has no token; write something")
        room = context - input_ids.shape[1]
        if room < 1:
            raise ValueError(
                f"the prompt has {input_ids.shape[1]} tokens and the model's context {context}; "
                "shorten it"
            )
        generation_config.max_new_tokens = min(generation_config.max_new_tokens or room, room)
        seed = vars(generation_config).pop("seed", None)
        # `generate` draws from torch's global generator alone, on the kept server's one thread.
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices, enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return generate(input_ids=input_ids, generation_config=generation_config, **rest)

    model.generate = generate_within
