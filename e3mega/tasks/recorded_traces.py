"""Completions that some model wrote, as supervised traces."""

# pyright: basic
# (pyarrow ships no types, so the strict rules would name every line that touches it)

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from e3mega.errors import E3Error
from e3mega.tasks.text_problems import HELD_OUT


@dataclass(frozen=True, slots=True)
class RecordedTrace:
    """One completion. Example: ``RecordedTrace("47 * 86", "all", "47 * 6 = ...", True)``."""

    problem: str
    slice_name: str
    text: str
    is_right: bool


def read_traces(path: str) -> tuple[RecordedTrace, ...]:
    """The right completions of a Parquet or JSON-lines file, in its order.

    Rows hold ``problem`` and ``text``, and may hold ``reward``, ``slice`` and ``split``; without a
    reward a completion counts as right, and those of held-out problems are left out. The rollouts
    of a run and the completions of ``e3mega grade`` are such files. Raises E3Error naming the
    file, when it has no right completion too.
    """
    try:
        rows = _rows(Path(path))
        traces = tuple(
            RecordedTrace(row["problem"], row.get("slice") or "all", row["text"], True)
            for row in rows
            if (row.get("reward") is None or row["reward"] > 0) and row.get("split") != HELD_OUT
        )
    except (pa.ArrowException, OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise E3Error(
            f"task.traces = {path}: not a file of completions ({type(error).__name__}: {error}); "
            "need Parquet or JSON lines with the columns problem and text"
        ) from error
    if not traces:
        raise E3Error(
            f"task.traces = {path}: none of its {len(rows)} completions is right and answers a "
            "training problem"
        )
    return traces


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        names = ("problem", "slice", "text", "reward", "split")
        table = pq.read_table(path)
        return table.select([name for name in names if name in table.column_names]).to_pylist()
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]
