"""What a grading has finished, problem by problem, on the disk as it finishes."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import E3Error


@dataclass(frozen=True, slots=True)
class GradedSample:
    """One completion of a problem. Example: ``GradedSample("...", 1.0, "", 412, False)``."""

    text: str
    """Without its end token."""
    reward: float
    failure: str
    """Why it could not be graded; empty when it was."""
    num_tokens: int
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class GradedProblem:
    """A problem with its completions. Example: ``GradedProblem(0, "3 5 7 : 22", ...)``."""

    index: int
    """Its place among the problems that are graded."""
    problem: str
    slice_name: str
    split: str
    samples: tuple[GradedSample, ...]

    @property
    def pass_rate(self) -> float:
        """Share of right samples."""
        return sum(sample.reward > 0 for sample in self.samples) / len(self.samples)


_PROBLEM = TypeAdapter(GradedProblem)


class GradeJournal:
    """One JSON line a problem below a line that says what was asked for.

    A kill at any byte loses at most the problem being written. One process at a time.
    """

    def __init__(self, path: Path, identity: dict[str, object]) -> None:
        """Begin, or go on where the same grading stopped; E3Error when it was another one."""
        self._path = path
        first = json.dumps({"grading": identity}, sort_keys=True).encode()
        if not path.exists() or path.stat().st_size == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(first)
            return
        with path.open("rb") as file:
            found = file.readline().strip()
        if found != first:
            raise E3Error(
                f"{path} belongs to another grading (of another model, task or sampling); choose "
                "another --out, or remove the folder"
            )

    def finished(self) -> Iterator[GradedProblem]:
        """The finished problems, one at a time; a torn line is passed over."""
        with self._path.open("rb") as file:
            next(file)
            for line in file:
                try:
                    yield _PROBLEM.validate_json(line)
                except ValidationError:
                    continue

    def append(self, problem: GradedProblem) -> None:
        """Keep a finished problem; the kernel has it before this returns."""
        self._append(_PROBLEM.dump_json(problem))

    def _append(self, line: bytes) -> None:
        with self._path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            is_torn = end > 0 and file.read(1) != b"\n"
            file.write((b"\n" if is_torn else b"") + line + b"\n")
