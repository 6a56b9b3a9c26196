"""Rollouts from an OpenAI-compatible server: vLLM, SGLang or `quartet serve`.

One request a row to `/v1/completions`, with the fields that these three have in common: token ids
in and out, a seed of its own, temperature and nothing else that shapes the distribution. Each
answer is read strictly (`answers`) and has to come from the weights that were sent last. In a team
one process asks, and tells the others.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch import distributed

from models.distributed.team import current_team
from models.errors import ParameterError, RolloutError
from models.files import parse_json, shorten
from models.language.config import SamplingConfig
from models.language.generation import Completion
from models.rollouts.answers import Asked, read_completion
from models.rollouts.config import RolloutServer
from models.rollouts.weights import FolderSender, NcclSender, Sender
from models.transport import BoundedClient, NoReplyError, Reply

T = TypeVar("T")

SECONDS = 1800.0
"""For one request, waiting behind others and loading weights included."""
RETRIES = 8
"""With growing pauses, about two minutes in all: a server that is started again may come back."""
PAUSE_SECONDS = 0.5
"""Before the first retry; doubled before each further one."""
MOST_SEED = 2**53
"""Up to here every reader of JSON keeps an integer."""
HEARTBEAT_SECONDS = 30.0
EXCERPT = 200


class ServerEngine:
    """Samples from a server; see the module for how."""

    exact = False

    def __init__(self, server: RolloutServer) -> None:
        """Prepare to ask; nothing is sent yet.

        Raises:
            ParameterError: The key cannot be read.
        """
        self._server = server
        self._key = _read_key(server)
        self._headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._name = _told(uuid.uuid4().hex[:12])
        self._version = ""
        self._vocabulary = 0
        self._sender: Sender | None = None
        self._open = ExitStack()
        self._http = self._open.enter_context(
            BoundedClient(
                server=self._who,
                headers=self._headers,
                connections=server.requests,
                seconds=SECONDS,
            )
        )

    def update(self, actor: Any, version: int) -> None:
        """Send the actor's weights, merged.

        Raises:
            RolloutError: They did not arrive.
        """
        self._version = f"{self._name}.{version}"
        self._vocabulary = actor.get_input_embeddings().num_embeddings
        if self._sender is None:
            self._sender = (
                FolderSender(self._server.folder, self._tell)
                if self._server.weights == "folder"
                else NcclSender(self._server.url, self._headers, actor.device, self._tell)
            )
        self._sender.send(actor, self._version)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: SamplingConfig,
        eos_token_id: int,
        generator: torch.Generator,
    ) -> list[Completion]:
        """Ask for one completion of each prompt.

        Args:
            generator: Drawn from once, for a seed of each row.

        Raises:
            RolloutError: The server does not answer, or not with such completions of these weights.
        """
        seeds = torch.randint(MOST_SEED, (len(prompts),), generator=generator).tolist()
        named = self._server.weights == "folder"  # vLLM's answers do not name their weights
        rows = [
            (
                Asked(
                    prompt=list(prompt),
                    sampling=sampling,
                    eos_token_id=eos_token_id,
                    vocabulary=self._vocabulary,
                    version=self._version if named else "",
                ),
                seed,
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

        def ask_all() -> list[Completion]:
            completions = self._http.each(lambda row: self._complete(*row), rows)
            if not named:
                self._want_version()
            return completions

        return _by_one(ask_all)

    def close(self) -> None:
        """End all connections."""
        self._open.close()

    @property
    def _who(self) -> str:
        return f"the rollout server at {self._server.url}"

    def _complete(self, asked: Asked, seed: int) -> Completion:
        sampling = asked.sampling
        body = {
            "prompt": asked.prompt,
            "max_tokens": sampling.max_completion_tokens,
            "min_tokens": sampling.min_completion_tokens - 1,  # theirs does not count EOS
            "stop_token_ids": [asked.eos_token_id],
            "temperature": sampling.temperature,
            "seed": seed,
            "return_token_ids": True,
            "logprobs": 0,
            "top_k": -1,
            "top_p": 1.0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }
        reply = self._reply("/v1/completions", body)
        try:
            return read_completion(reply.body, asked)
        except RolloutError as error:
            raise RolloutError(f"an answer of {self._who} {error}") from error

    def _tell(self, route: str, body: Mapping[str, Any]) -> None:
        answer = _by_one(lambda: _content(self._reply(route, body)))
        if answer.get("success") is not True:
            raise RolloutError(
                f"{self._who} did not take the weights {self._version}: "
                f"{self._cleared(str(answer.get('message')))!r}; see its log"
            )

    def _want_version(self) -> None:
        version = _content(self._reply("/weight_info", None)).get("weight_version")
        if version != self._version:
            raise RolloutError(
                f"{self._who} has the weights {version!r}, wanted {self._version!r}; it was "
                "started again, or another run updates it: give each run a server of its own"
            )

    def _reply(self, route: str, body: Mapping[str, Any] | None) -> Reply:
        try:
            reply = self._http.persist(
                self._server.url + route, body, retries=RETRIES, pause_seconds=PAUSE_SECONDS
            )
        except NoReplyError as error:
            raise RolloutError(
                f"{self._who} did not answer in {RETRIES + 1} attempts "
                f"({self._cleared(str(error))}); see that it runs, or lower "
                "QUARTET_ROLLOUT_REQUESTS; a new run resumes with this iteration"
            ) from error.__cause__
        if reply.status != 200:
            raise RolloutError(
                f"{self._who} refuses {route} with status {reply.status}: "
                f"{self._cleared(reply.body.decode('utf-8', 'replace'))!r}; check "
                "QUARTET_ROLLOUT_SERVER, that QUARTET_ROLLOUT_KEY holds its key (it is "
                f"{'set' if self._key else 'not set'}), and how the server was started"
            )
        return reply

    def _cleared(self, text: str) -> str:
        """What the other side says, short, in one line and without the key."""
        return shorten(text.replace(self._key, "[key]") if self._key else text, EXCERPT)


def _by_one(ask: Callable[[], T]) -> T:
    """Let one process ask, and give its answer, or its error, to all.

    While it asks, the others hear of it now and then: their patience ends before a slow server's.
    """
    if not _has_others():
        return ask()
    with ThreadPoolExecutor(max_workers=1) as pool:
        asked = pool.submit(ask) if current_team().leads else None
        while True:
            outcome: tuple[BaseException | None, Any] | None = None
            if asked is not None and wait([asked], timeout=HEARTBEAT_SECONDS).done:
                error = asked.exception()
                outcome = (error, None if error else asked.result())
            if (told := _told(outcome)) is None:
                continue
            error, found = told
            if error is not None:
                raise error
            return found  # type: ignore[no-any-return]


def _told(value: T) -> T:
    """What the first process has, in each."""
    if not _has_others():
        return value
    told = [value]
    distributed.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    return told[0]


def _has_others() -> bool:
    return distributed.is_initialized() and distributed.get_world_size() > 1


def _content(reply: Reply) -> dict[str, Any]:
    try:
        content = parse_json(reply.body.decode())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _read_key(server: RolloutServer) -> str:
    if server.key_file is None:
        return ""
    try:
        return server.key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"the key of the rollout server cannot be read from {server.key_file} ({error}); set "
            "QUARTET_ROLLOUT_KEY again"
        ) from error
