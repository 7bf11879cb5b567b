"""The process that reads a data set of mathematics with Hugging Face ``datasets``.

``python -m e3mega.tasks.math.load SEED OUTPUT``, the options as JSON on stdin.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from e3mega.errors import E3Error, RecordError, boundary
from e3mega.tasks.math.layouts import LAYOUTS, Layout
from e3mega.tasks.math.options import MathOptions
from e3mega.tasks.pinned import check_pin
from e3mega.tasks.text_problems import ProblemSet, TextProblem, write_problems

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
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
        if options.num_held_out >= len(training):
            raise ValueError(
                f"task.num_held_out = {options.num_held_out} of {len(training)} problems; lower it"
            )
        order = np.random.default_rng([seed, _SPLIT_STREAM]).permutation(len(training))
        chosen = set(order[: options.num_held_out].tolist())
        held_out = [training[place] for place in sorted(chosen)]
        training = [each for place, each in enumerate(training) if place not in chosen]
    return ProblemSet(tuple(training), tuple(held_out))


def _problems(options: MathOptions, layout: Layout, source: str, split: str) -> list[TextProblem]:
    path = Path(source)
    check_pin("task.source", source, options.sha256)
    # Files, folders and other copies on the hub hold one configuration.
    has_own = source == layout.hub_name and not path.exists()
    names = layout.configurations if has_own and layout.configurations else (None,)
    return [
        _problem(row, layout, "all" if name is None else name)
        for name in names
        for row in _rows(options, source, path, name, split)
    ]


def _rows(options: MathOptions, source: str, path: Path, name: str | None, split: str) -> Any:
    """Something to iterate over; the stubs of datasets leave its rows open."""
    import datasets

    if path.is_file():
        if path.suffix == ".arrow":
            return datasets.Dataset.from_file(str(path))
        if path.suffix not in _FORMATS:
            raise ValueError(f"{path}: need one of .arrow {' '.join(_FORMATS)}")
        form = _FORMATS[path.suffix]
        return datasets.load_dataset(form, data_files={split: str(path)}, split=split)
    if path.is_dir() and (path / "dataset_dict.json").exists():
        return datasets.load_from_disk(str(path))[split]
    if path.is_dir() and (path / "state.json").exists():
        return datasets.load_from_disk(str(path))
    return datasets.load_dataset(source, name, split=split, revision=options.revision)


def _problem(row: dict[str, Any], layout: Layout, slice_name: str) -> TextProblem:
    problem = _cell(row, *layout.problem_columns)
    answer = _cell(row, layout.answer_column)
    if isinstance(problem, list):
        problem = next(turn["content"] for turn in problem if turn["role"] == "user")
    if isinstance(answer, dict):
        answer = answer["ground_truth"]
    answers = [str(each).strip() for each in (answer if isinstance(answer, list) else [answer])]
    text = json.dumps({"problem": str(problem).strip(), "answers": answers}, ensure_ascii=False)
    return TextProblem(text, str(row.get("slice") or slice_name))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


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
