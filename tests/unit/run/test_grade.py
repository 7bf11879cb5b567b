"""The files of a grading, written from a journal that is complete."""

import errno
import json
from pathlib import Path
from typing import NoReturn

import pyarrow.parquet as pq
import pytest

from e3mega.evaluate.difficulty import Thresholds
from e3mega.evaluate.grade_journal import GradedProblem, GradedSample, GradeJournal
from e3mega.evaluate.grading import Sampling
from e3mega.plan.paths import GradePaths
from e3mega.run.measuring.grade import TRAIN, GradeOrder, _identity, grade
from e3mega.run.measuring.model_source import model_at
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import GenerationLayout
from e3mega.tasks.countdown.text import Template
from e3mega.tasks.multiplication.options import MultiplicationOptions
from e3mega.tasks.recorded_traces import read_traces
from e3mega.tasks.text_problems import read_problems
from tests.text_tokenizers import write_byte_level

TASK = MultiplicationOptions(
    kind="multiplication", num_digits=(2,), num_training=3, num_held_out=1, template=Template.SHORT
)


def graded(folder: Path) -> GradeOrder:
    """An order of which every problem is in the journal."""
    model = write_byte_level(folder / "model")
    config = {"eos_token_id": 2, "max_position_embeddings": 4096}
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").touch()
    order = GradeOrder(
        model=model,
        task=TASK,
        sampling=Sampling(2, 64, 1.0, 1.0, 0, 1, 0),
        splits=(TRAIN,),
        max_problems=None,
        parts=Thresholds(easy_above=0.6, hard_up_to=0.0),
        layout=GenerationLayout(),
        generation=GenerationOptions(),
        out=folder / "out",
    )
    journal = GradeJournal(GradePaths(order.out).journal, _identity(order, model_at(model, model)))
    for index in range(3):
        samples = tuple(GradedSample("x", float(k < index), "", 4, False) for k in range(2))
        journal.append(GradedProblem(index, f"1{index} * 12", "2", TRAIN, samples))
    return order


def test_a_finished_grading_writes_its_files_without_a_server(tmp_path: Path) -> None:
    order = graded(tmp_path)
    summary = grade(order)
    assert summary.num_problems == {"easy": 1, "hard": 1, "medium": 1}
    paths = GradePaths(order.out)
    rates = [
        (each.slice_name, each.pass_rate) for each in read_problems(str(paths.problems)).training
    ]
    assert rates == [("hard", 0.0), ("medium", 0.5), ("easy", 1.0)]
    assert len(read_traces(str(paths.completions))) == 3


def test_files_that_are_there_stay_whole_when_the_disk_fills_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = graded(tmp_path)
    grade(order)
    paths = GradePaths(order.out)
    before = [path.read_bytes() for path in (paths.problems, paths.completions)]

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="no space"):
        grade(order)
    assert [path.read_bytes() for path in (paths.problems, paths.completions)] == before
