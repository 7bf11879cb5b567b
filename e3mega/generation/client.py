"""The client of one generation server: groups of completions and scores of given tokens."""

import asyncio
import json
import time
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from e3mega.errors import RefusedError, TierError
from e3mega.rollout.records import Completion, FinishReason, GroupRequest, VersionSpan
from e3mega.rollout.whole_file import text_if_there

_POLL_S = 0.25
_HEALTH_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
_EXCERPT_CHARS = 500
_REFUSALS = range(400, 500)
"""Statuses by which a server calls the request wrong, not itself."""
_FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class GenerationClient:
    """Talks to the server whose address file is given; every request carries the run's key.

    Errors are TierError with the server, the route and what it answered.
    """

    def __init__(
        self, *, address_file: Path, key: str, end_token_ids: tuple[int, ...], deadline_s: float
    ) -> None:
        self.name = address_file.stem
        self._address_file = address_file
        self._headers = {"Authorization": f"Bearer {key}"}
        self._end_token_ids = end_token_ids
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None
        self._url = ""
        self._address = ""
        self._forgotten = ""

    def forget(self) -> int | None:
        """Never talk to the process that answered so far, but wait for one that is started anew.

        Gives the id of the process; None when none answered.
        """
        self._url, self._forgotten = "", self._address
        return json.loads(self._address)["pid"] if self._address else None

    async def wait_until_ready(self, deadline_s: float) -> None:
        """Return when the server answers; unblocked by its address file and its health route."""
        if self._url:
            return
        deadline = time.monotonic() + deadline_s
        last = ""
        while time.monotonic() < deadline:
            last = await self._why_not_ready()
            if not last:
                return
            await asyncio.sleep(_POLL_S)
        raise TierError(f"{self.name}: not ready after {deadline_s:g} s: {last}; see its log")

    async def _why_not_ready(self) -> str:
        """What the server lacks, in words; empty, and its address known, when it answers."""
        text = text_if_there(self._address_file)
        if not text:
            return "it has not written its address"
        if text == self._forgotten:
            return "it was lost and has not been started again"
        address = json.loads(text)
        url = f"http://{address['host']}:{address['port']}"
        try:
            async with self._open().get(f"{url}/health", timeout=_HEALTH_TIMEOUT) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{url}/health: {error!r}"
        if status == HTTPStatus.UNAUTHORIZED:
            raise RefusedError(
                f"{self.name}: {url} refuses the run's key; was the key file changed?"
            )
        if status != HTTPStatus.OK:
            return f"{url}/health answers {status}"
        self._url, self._address = url, text
        return ""

    async def wait_until_gone(self) -> str:
        """Return when the process that answered has ended, with that in words.

        Unblocked by its supervisor, which withdraws the address of a server that ended.
        """
        answered = self._address
        assert answered, "only a server that answered can be gone"
        while text_if_there(self._address_file) == answered:
            await asyncio.sleep(_POLL_S)
        return f"{self.name}: its process ended, says its supervisor"

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """All samples of one prompt in one request; sample k uses the seed plus k."""
        params = {
            "n": request.num_samples,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "seed": request.seed,
            "logprobs": 0,
            "stop_token_ids": list(self._end_token_ids),
            "detokenize": False,
        }
        answer = await self._generate(request.prompt.token_ids, params)
        try:
            return self._completions(answer, request)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise TierError(
                f"{self.name}: what it answers for prompt {request.index} is no completion: "
                f"{error!r} in {json.dumps(answer)[:_EXCERPT_CHARS]}"
            ) from error

    def _completions(self, answer: Any, request: GroupRequest) -> tuple[Completion, ...]:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        if len(choices) != request.num_samples:
            raise TierError(
                f"{self.name}: {len(choices)} samples came for prompt {request.index}, "
                f"{request.num_samples} were asked for"
            )
        return tuple(self._completion(choice, request) for choice in choices)

    def _completion(self, choice: dict[str, Any], request: GroupRequest) -> Completion:
        where = f"{self.name}: prompt {request.index}, sample {choice['index']}"
        tokens = tuple(choice["token_ids"])
        content = choice["logprobs"]["content"]
        if choice["finish_reason"] not in _FINISH_REASONS:
            raise TierError(f"{where}: ended with {choice['finish_reason']!r}")
        if len(content) != len(tokens) or any(
            entry["token_id"] != token for entry, token in zip(content, tokens, strict=True)
        ):
            raise TierError(f"{where}: the log-probabilities are not those of its tokens")
        spans = tuple(
            VersionSpan(_version(span["version"], where), span["start"], span["end"])
            for span in choice["weight_versions"]
        )
        _check_spans(spans, len(tokens), request.version, where)
        return Completion(
            tokens,
            tuple(entry["logprob"] for entry in content),
            _FINISH_REASONS[choice["finish_reason"]],
            spans,
        )

    async def label_weights(self, version: int) -> None:
        """Say which version the server's weights are, where they were not synced but loaded."""
        await self._post("/update_weight_version", {"new_version": str(version)})

    async def score(self, token_ids: tuple[int, ...]) -> list[float]:
        """Log-probability of each token but the first, in nats, at temperature 1."""
        params = {"max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}
        answer = await self._generate(token_ids, params)
        try:
            rows = answer["prompt_logprobs"][1:]
            pairs = zip(rows, token_ids[1:], strict=True)
            return [row[str(token)]["logprob"] for row, token in pairs]
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise TierError(
                f"{self.name}: what it answers holds no score of the tokens: {error!r}"
            ) from error

    async def _generate(self, token_ids: tuple[int, ...], params: dict[str, Any]) -> Any:
        body = {"token_ids": list(token_ids), "sampling_params": params, "model": "policy"}
        return await self._post("/inference/v1/generate", body)

    async def _post(self, route: str, body: dict[str, Any]) -> Any:
        timeout = aiohttp.ClientTimeout(total=self._deadline_s)
        try:
            async with self._open().post(self._url + route, json=body, timeout=timeout) as response:
                text = await response.text()
                if response.status != HTTPStatus.OK:
                    kind = RefusedError if response.status in _REFUSALS else TierError
                    raise kind(
                        f"{self.name}: {route}: status {response.status}: {text[:_EXCERPT_CHARS]}"
                    )
                return json.loads(text)
        except TimeoutError as error:
            raise TierError(
                f"{self.name}: {route}: no answer within {self._deadline_s:g} s"
            ) from error
        except (aiohttp.ClientError, json.JSONDecodeError) as error:
            raise TierError(f"{self.name}: {route}: {error}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers, connector=aiohttp.TCPConnector(limit=0)
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _version(label: str, where: str) -> int:
    if not label.isdecimal():
        raise TierError(f"{where}: sampled under weights labelled {label!r}, never synced")
    return int(label)


def _check_spans(spans: tuple[VersionSpan, ...], num_tokens: int, version: int, where: str) -> None:
    """Every token once, and all under the version that was asked for."""
    position = 0
    for span in spans:
        if span.start != position or span.version != version:
            raise TierError(
                f"{where}: tokens {span.start} to {span.end} were sampled under version "
                f"{span.version}; version {version} was asked for from token {position}"
            )
        position = span.end
    if position != num_tokens:
        raise TierError(f"{where}: {position} of {num_tokens} tokens say their version")
