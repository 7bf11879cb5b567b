"""Answers by content: what a model was asked under which settings is never asked again."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.rollout.records import Completion, GroupRequest

_COMPLETIONS = TypeAdapter(tuple[Completion, ...])
_SCORES = TypeAdapter(list[float])
_CHUNK_BYTES = 1 << 20
_COUNTED = (".safetensors", ".json", ".jinja", ".txt", ".model")


def model_digest(folder: Path) -> str:
    """SHA-256 over name and content of the model's weights, configuration and tokenizer."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in _COUNTED):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def request_digest(request: GroupRequest) -> str:
    """SHA-256 over all that decides the completions, but the model."""
    content = {
        "prompt": list(request.prompt.token_ids),
        "num_samples": request.num_samples,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "seed": request.seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def scored_digest(token_ids: Sequence[int]) -> str:
    """SHA-256 over tokens whose log-probabilities are asked for."""
    return hashlib.sha256(json.dumps(list(token_ids)).encode()).hexdigest()


class CompletionStore:
    """What one model answered: one JSON line a request, kept as it is answered.

    A kill at any byte loses at most the answer being written. Belongs to one process at a time.
    """

    def __init__(self, cache: Path, digest: str) -> None:
        self._path = cache / digest[:32] / "completions.jsonl"
        self._known: dict[str, tuple[Completion, ...]] = {}
        self._scores: dict[str, list[float]] = {}
        if self._path.exists():
            for line in self._path.read_bytes().splitlines():
                self._read(line)

    def __len__(self) -> int:
        return len(self._known)

    def _read(self, line: bytes) -> None:
        """A torn line is passed over: its request is sent again."""
        try:
            record = json.loads(line)
            if "scored" in record:
                self._scores[record["scored"]] = _SCORES.validate_python(record["logprobs"])
            else:
                self._known[record["request"]] = _COMPLETIONS.validate_python(record["completions"])
        except (json.JSONDecodeError, KeyError, TypeError, ValidationError):
            return

    def get(self, request: GroupRequest) -> tuple[Completion, ...] | None:
        """The completions of a request with the same content; None when it was never answered."""
        return self._known.get(request_digest(request))

    def put(self, request: GroupRequest, completions: tuple[Completion, ...]) -> None:
        """Keep an answer; the kernel has it before this returns."""
        digest = request_digest(request)
        self._known[digest] = completions
        values = _COMPLETIONS.dump_python(completions, mode="json")
        self._write({"request": digest, "completions": values})

    def score(self, token_ids: Sequence[int]) -> list[float] | None:
        """The log-probabilities of these tokens; None when they were never scored."""
        return self._scores.get(scored_digest(token_ids))

    def put_score(self, token_ids: Sequence[int], logprobs: list[float]) -> None:
        """Keep the log-probabilities of tokens; the kernel has them before this returns."""
        digest = scored_digest(token_ids)
        self._scores[digest] = logprobs
        self._write({"scored": digest, "logprobs": logprobs})

    def _write(self, record: dict[str, object]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(record).encode() + b"\n"
        with self._path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            is_torn = end > 0 and file.read(1) != b"\n"
            file.write(b"\n" + line if is_torn else line)
