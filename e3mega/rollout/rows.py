"""Rollouts as rows of a Parquet file, one a rollout, and back."""

# pyright: basic
# (pyarrow ships no types, so the strict rules would name every line that touches it)

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from e3mega.errors import RecordError
from e3mega.rollout.records import (
    Completion,
    FinishReason,
    Group,
    GroupRequest,
    Purpose,
    Rollout,
    VersionSpan,
)
from e3mega.rollout.whole_file import write_whole
from e3mega.tasks.failure import Failure
from e3mega.tasks.interface import Marks, Prompt

SCHEMA = pa.schema(
    [
        ("purpose", pa.string()),
        ("stage", pa.string()),
        ("round", pa.int64()),
        ("index", pa.int64()),
        ("sample", pa.int64()),
        ("slice", pa.string()),
        ("problem", pa.string()),
        ("prompt_text", pa.string()),
        ("text", pa.string()),
        ("reward", pa.float64()),
        ("num_attempts", pa.int64()),
        ("num_unique_attempts", pa.int64()),
        ("num_claimed_hits", pa.int64()),
        ("num_false_hits", pa.int64()),
        ("num_missed_hits", pa.int64()),
        ("num_failed_checks", pa.int64()),
        ("ends_at_failed_check", pa.bool_()),
        ("solved_at", pa.int64()),
        ("attempts_at", pa.list_(pa.int64())),
        ("failure", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float64())),
        (
            "spans",
            pa.list_(
                pa.struct([("version", pa.int64()), ("start", pa.int64()), ("end", pa.int64())])
            ),
        ),
        ("version", pa.int64()),
        ("seed", pa.int64()),
        ("num_samples", pa.int64()),
        ("max_tokens", pa.int64()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("top_k", pa.int64()),
    ]
)

Row = dict[str, Any]


def _row(rollout: Rollout, request: GroupRequest, text: Callable[[Sequence[int]], str]) -> Row:
    completion, marks = rollout.completion, rollout.marks
    return {
        "index": request.index,
        "slice": request.prompt.slice_name,
        "problem": request.prompt.problem,
        "prompt_text": text(request.prompt.token_ids),
        "text": text(completion.token_ids),
        "reward": marks.reward,
        "num_attempts": marks.num_attempts,
        "num_unique_attempts": marks.num_unique_attempts,
        "num_claimed_hits": marks.num_claimed_hits,
        "num_false_hits": marks.num_false_hits,
        "num_missed_hits": marks.num_missed_hits,
        "num_failed_checks": marks.num_failed_checks,
        "ends_at_failed_check": marks.ends_at_failed_check,
        "solved_at": marks.solved_at,
        "attempts_at": marks.attempts_at,
        "failure": marks.failure.value,
        "finish_reason": completion.finish_reason.value,
        "prompt_token_ids": request.prompt.token_ids,
        "token_ids": completion.token_ids,
        "logprobs": completion.logprobs,
        "spans": [{"version": s.version, "start": s.start, "end": s.end} for s in completion.spans],
        "version": request.version,
        "seed": request.seed,
        "num_samples": request.num_samples,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
    }


def write_groups(
    path: Path,
    groups: Sequence[Group],
    *,
    purpose: Purpose,
    stage: str,
    round: int,
    text: Callable[[Sequence[int]], str],
) -> None:
    """Write the groups of a round in one rename, ordered by index and sample.

    ``text`` turns token ids into what a person reads.
    """
    where = {"purpose": purpose.value, "stage": stage, "round": round}
    rows: list[Row] = [
        {**where, "sample": sample, **_row(rollout, group.request, text)}
        for group in sorted(groups, key=lambda group: group.request.index)
        for sample, rollout in enumerate(group.rollouts)
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="zstd")
    write_whole(path, sink.getvalue().to_pybytes())


def _request(row: Row) -> GroupRequest:
    return GroupRequest(
        index=row["index"],
        prompt=Prompt(row["problem"], tuple(row["prompt_token_ids"]), row["slice"]),
        num_samples=row["num_samples"],
        max_tokens=row["max_tokens"],
        temperature=row["temperature"],
        top_p=row["top_p"],
        top_k=row["top_k"],
        seed=row["seed"],
        version=row["version"],
    )


def _rollout(row: Row) -> Rollout:
    spans = tuple(VersionSpan(s["version"], s["start"], s["end"]) for s in row["spans"])
    return Rollout(
        Completion(
            tuple(row["token_ids"]),
            tuple(row["logprobs"]),
            FinishReason(row["finish_reason"]),
            spans,
        ),
        Marks(
            reward=row["reward"],
            num_attempts=row["num_attempts"],
            num_unique_attempts=row["num_unique_attempts"],
            num_claimed_hits=row["num_claimed_hits"],
            num_false_hits=row["num_false_hits"],
            num_missed_hits=row["num_missed_hits"],
            num_failed_checks=row["num_failed_checks"],
            ends_at_failed_check=row["ends_at_failed_check"],
            solved_at=row["solved_at"],
            attempts_at=tuple(row["attempts_at"]),
            failure=Failure(row["failure"]),
        ),
    )


def read_groups(path: Path) -> tuple[Group, ...]:
    """The groups of a finished round, by index; RecordError names the file if it is damaged."""
    try:
        rows: list[Row] = pq.read_table(path, schema=SCHEMA).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise RecordError(
            f"{path}: not a Parquet file of rollouts: {error}; remove it and resume"
        ) from error
    by_index: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["index"], row["sample"])):
        by_index.setdefault(row["index"], []).append(row)
    return tuple(
        Group(_request(own[0]), tuple(_rollout(row) for row in own)) for own in by_index.values()
    )


def read_texts(path: Path) -> list[str]:
    """The words of every completion of a finished round."""
    return [row["text"] for row in pq.read_table(path, columns=["text"]).to_pylist()]
