"""Token ids in, token ids and logprobs out: how a served model takes part in training.

A completion here is a row of `sample_completions`, with the request's seed as the seed of the row:
one seed, one completion. Requests and updates of the weights are done one after the other by the
kept server's own thread, so that a completion comes from one state of the weights, which its
answer names.

Fields are those of vLLM and SGLang; the update is SGLang's.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ModelError, ParameterError

if TYPE_CHECKING:
    from models.language.generation import Completion


class TokenServer:
    """Samples from a model, and changes its weights."""

    def __init__(
        self, model: Any, tokenizer: Any, name: str, thread: Any, updates: Path | None
    ) -> None:
        """Serve a loaded model.

        Args:
            name: The model's.
            thread: Of the kept server, on which everything that uses the model is done.
            updates: Folder from below which weights may be loaded, or None.
        """
        self._model, self._tokenizer, self._name = model, tokenizer, name
        self._thread = thread
        self._updates = None if updates is None else updates.resolve()
        self._version = "default"

    async def complete(self, body: dict[str, Any], request_id: str) -> dict[str, Any]:
        """Answer a `TokenRequest`.

        Raises:
            ParameterError: The model has no such tokens, or not so much context.
        """
        completion, version = await self._thread.async_submit(self._sample, body)
        tokens, prompt = completion.token_ids, body["prompt"]
        return {
            "id": request_id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": self._name,
            "choices": [
                {
                    "index": 0,
                    "text": self._tokenizer.decode(tokens, skip_special_tokens=True),
                    "finish_reason": "stop" if completion.finished else "length",
                    "prompt_token_ids": prompt,
                    "token_ids": tokens,
                    "logprobs": {
                        "tokens": [f"token_id:{token}" for token in tokens],
                        "token_logprobs": completion.logprobs,
                    },
                }
            ],
            "usage": {
                "prompt_tokens": len(prompt),
                "completion_tokens": len(tokens),
                "total_tokens": len(prompt) + len(tokens),
            },
            "metadata": {"weight_version": version},
        }

    async def update(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer an `UpdateRequest`.

        Raises:
            ParameterError: The folder is not one of those that may be loaded.
            ModelError: It holds no such model.
        """
        await self._thread.async_submit(self._load, body["model_path"], body["weight_version"])
        return {"success": True, "message": f"weights are {self._version}"}

    def _sample(self, body: dict[str, Any]) -> tuple["Completion", str]:
        import torch

        from models.language.config import SamplingConfig
        from models.language.generation import sample_completions

        known = self._model.get_input_embeddings().num_embeddings
        ends = body.get("stop_token_ids") or [self._tokenizer.eos_token_id]
        highest = max(*body["prompt"], *ends)
        if highest >= known:
            raise ParameterError(
                f"token id {highest} is none of the model's {known}; give ids of its tokenizer"
            )
        sampling = SamplingConfig(
            temperature=body["temperature"],
            max_completion_tokens=body["max_tokens"],
            min_completion_tokens=body["min_tokens"] + 1,  # which counts EOS
        )
        (completion,) = sample_completions(
            self._model,
            [body["prompt"]],
            sampling=sampling,
            eos_token_id=ends[0],
            generator=torch.Generator().manual_seed(body["seed"]),
        )
        return completion, self._version

    def _load(self, path: str, version: str) -> None:
        """Read a folder whole and check it, before any weight is changed."""
        import torch
        from transformers import AutoModelForCausalLM

        from models.language.reading import read_weights

        folder = self._allowed(path)
        wanted = "causal language model of the served architecture"
        new = read_weights(
            AutoModelForCausalLM, folder, wanted, remedy="save it from the model that is served"
        ).state_dict()
        own = self._model.state_dict()
        unlike = [
            name for name in own.keys() | new.keys()
            if name not in own or name not in new or own[name].shape != new[name].shape
        ]  # fmt: skip
        if unlike:
            raise ModelError(
                f"the model in {folder} differs from the served one in {len(unlike)} weights, such "
                f"as {min(unlike)}; a {wanted} was wanted: save it from the model that is served"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(new[name])
        self._version = version

    def _allowed(self, path: str) -> Path:
        try:
            folder = Path(path).resolve()
            inside = [folder, *(one.resolve() for one in folder.rglob("*"))]
        except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a zero byte
            raise ParameterError(f"{path!r} is no folder ({error}); check model_path") from error
        assert self._updates is not None
        if not all(one.is_relative_to(self._updates) for one in inside):
            raise ParameterError(
                f"{path!r} lies outside {self._updates}, the folder that --allow-updates names; "
                "save weights below it"
            )
        return folder
