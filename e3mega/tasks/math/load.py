"""The process that reads a data set of mathematics with Hugging Face ``datasets``.

``python -m e3mega.tasks.math.load SEED OUTPUT``, the options as JSON on stdin.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from e3mega.errors import E3Error, RecordError, boundary
from e3mega.tasks.math.layouts import LAYOUTS, Layout
from e3mega.tasks.math.options import MathOptions
from e3mega.tasks.pinned import check_pin
from e3mega.tasks.text_problems import ProblemSet, TextProblem, write_problems

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
_SPLIT_STREAM = 1


def load(options: MathOptions, seed: int) -> ProblemSet:
    """The problems of both splits; ValueError or datasets' own errors if that is impossible."""
    layout = LAYOUTS[options.layout]
    source = options.source or layout.hub_name
    if source is None:
        raise ValueError(f"task.source is missing; layout {options.layout.value} has no hub name")
    split = options.split or layout.split
    held_out_split = options.held_out_split or layout.held_out_split
    training = _problems(options, layout, source, split) if split else []
    held_out = _problems(options, layout, source, held_out_split) if held_out_split else []
    if not held_out_split and options.num_held_out:
        different = tuple(dict.fromkeys(training))
        if options.num_held_out >= len(different):
            raise ValueError(
                f"task.num_held_out = {options.num_held_out} of {len(different)} problems; lower it"
            )
        order = np.random.default_rng([seed, _SPLIT_STREAM]).permutation(len(different))
        held_out = [different[place] for place in sorted(order[: options.num_held_out].tolist())]
    # A data set may hold a problem twice, and two splits may share one.
    kept = {json.loads(each.text)["problem"] for each in held_out}
    training = [each for each in training if json.loads(each.text)["problem"] not in kept]
    return ProblemSet(tuple(training), tuple(held_out))


def _problems(options: MathOptions, layout: Layout, source: str, split: str) -> list[TextProblem]:
    path = Path(source)
    check_pin("task.source", source, options.sha256)
    # Files, folders and other copies on the hub hold one configuration.
    has_own = source == layout.hub_name and not path.exists()
    names = layout.configurations if has_own and layout.configurations else (None,)
    read = [
        _problem(row, layout, "all" if name is None else name)
        for name in names
        for row in _rows(options, source, path, name, split)
    ]
    found = [problem for problem in read if problem is not None]
    if not found:
        raise ValueError(f"none of its {len(read)} rows has both a problem and an answer")
    return found


def _rows(options: MathOptions, source: str, path: Path, name: str | None, split: str) -> Any:
    """Something to iterate over; the stubs of datasets leave its rows open."""
    import datasets

    if path.is_file():
        if path.suffix == ".csv":
            return _table(path)
        if path.suffix == ".arrow":
            return datasets.Dataset.from_file(str(path))
        if path.suffix not in _FORMATS:
            raise ValueError(f"{path}: need one of .arrow .csv {' '.join(_FORMATS)}")
        form = _FORMATS[path.suffix]
        return datasets.load_dataset(form, data_files={split: str(path)}, split=split)
    if path.suffix in (".arrow", ".csv", *_FORMATS):
        raise ValueError(f"there is no file {path}")
    if path.is_dir() and (path / "dataset_dict.json").exists():
        return datasets.load_from_disk(str(path))[split]
    if path.is_dir() and (path / "state.json").exists():
        return datasets.load_from_disk(str(path))
    return datasets.load_dataset(source, name, split=split, revision=options.revision)


def _table(path: Path) -> Iterator[dict[str, str | None]]:
    """Rows of text: datasets guesses numbers, which lose digits beside an empty cell."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, restkey="")


def _problem(row: dict[str, Any], layout: Layout, slice_name: str) -> TextProblem | None:
    """None for a row that lacks a problem or an answer."""
    problem = _cell(row, *layout.problem_columns)
    answer = _cell(row, layout.answer_column)
    if isinstance(problem, list):
        problem = next((turn["content"] for turn in problem if turn["role"] == "user"), None)
        if problem is None:
            raise ValueError(f"column {layout.problem_columns[0]} has no turn of the user")
    if isinstance(answer, dict):
        if "ground_truth" not in answer:
            raise ValueError(f"column {layout.answer_column} has no ground_truth")
        answer = answer["ground_truth"]
    given = answer if isinstance(answer, list) else [answer]
    answers = [text for each in given if each is not None and (text := str(each).strip())]
    asked = "" if problem is None else str(problem).strip()
    if not asked or not answers:
        return None
    text = json.dumps({"problem": asked, "answers": answers}, ensure_ascii=False)
    return TextProblem(text, str(row.get("slice") or slice_name))


def _words(error: BaseException) -> str:
    """The error, and what caused it: datasets says only that something went wrong."""
    first = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return first if error.__cause__ is None else f"{first}: {_words(error.__cause__)}"


def _cell(row: dict[str, Any], *columns: str) -> Any:
    """What stands in the first of the columns that the data set has."""
    for column in columns:
        if column in row:
            return row[column]
    raise ValueError(
        f"column {' or '.join(columns)} is missing; there are {', '.join(row)}; choose another "
        "task.layout, or rename the column in a file of your own"
    )


def main(argv: list[str]) -> int:
    """Write the problems; the reason of a failure is the last line on stderr."""
    options = MathOptions.model_validate_json(sys.stdin.read())
    try:
        # Whatever datasets, its network or a user's file raise means that it cannot be read.
        with boundary(RecordError, "the problems cannot be read", words=_words):
            problems = load(options, int(argv[0]))
    except E3Error as error:
        print(error, file=sys.stderr)
        return 1
    write_problems(Path(argv[1]), problems)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
