"""Problems of tasks of plain text, and the files that hold graded ones."""

# pyright: basic
# (pyarrow ships no types, so the strict rules would name every line that touches it)

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from e3mega.errors import E3Error

HELD_OUT = "held_out"
"""In the column ``split``: the problem is for evaluation; any other word means training."""


@dataclass(frozen=True, slots=True)
class TextProblem:
    """A problem as its task's verifier reads it. Example: ``TextProblem("3 5 7 : 22", "3")``."""

    text: str
    slice_name: str
    pass_rate: float | None = None
    """Share of right samples that a grading recorded; None when it was never graded."""


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """The problems of a task, in a fixed order. Example: ``ProblemSet((problem,), ())``."""

    training: tuple[TextProblem, ...]
    held_out: tuple[TextProblem, ...]


def read_problems(path: str) -> ProblemSet:
    """Problems of a Parquet file with the columns problem, slice, pass_rate and split.

    Raises E3Error naming the file when it is none.
    """
    try:
        rows = pq.read_table(path, columns=["problem", "slice", "pass_rate", "split"]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise E3Error(
            f"task.problems = {path}: not a Parquet file of graded problems: {error}; write one "
            "with e3mega grade"
        ) from error
    parts: dict[bool, list[TextProblem]] = {True: [], False: []}
    for row in rows:
        problem = TextProblem(row["problem"], row["slice"], row["pass_rate"])
        parts[row["split"] == HELD_OUT].append(problem)
    return ProblemSet(tuple(parts[False]), tuple(parts[True]))


def write_problems(path: Path, problems: ProblemSet) -> None:
    """Write a file for ``read_problems``."""
    rows = [
        {
            "problem": problem.text,
            "slice": problem.slice_name,
            "pass_rate": problem.pass_rate,
            "split": split,
        }
        for split, members in (("train", problems.training), (HELD_OUT, problems.held_out))
        for problem in members
    ]
    schema = pa.schema(
        [
            ("problem", pa.string()),
            ("slice", pa.string()),
            ("pass_rate", pa.float64()),
            ("split", pa.string()),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
