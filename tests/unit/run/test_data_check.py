"""What a run asks of its data is known to be there before any job starts."""

from pathlib import Path

import pytest

from e3mega.errors import E3Error
from e3mega.plan.compile import compile_plan
from e3mega.plan.planfile import Plan
from e3mega.run.data_check import check_data
from e3mega.spec.resolve import find_spec, resolve_spec
from e3mega.tasks.catalog import build_task, provide_tokenizer
from e3mega.tasks.interface import Task
from e3mega.tasks.text_problems import ProblemSet, TextProblem, write_problems
from tests.unit.loop.test_controller import small_plan

TEXT = find_spec("paper/countdown-coupled")


def checked(folder: Path, plan: Plan) -> None:
    tasks: list[Task] = []
    for stage in plan.stages:
        provide_tokenizer(stage.task, None, plan.seed, folder)
        tasks.append(build_task(stage.task, plan.seed, folder))
    check_data(plan, tasks)


def test_a_shipped_run_has_its_data(tmp_path: Path) -> None:
    checked(tmp_path, small_plan())


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("{slices: [esay]}", "slices are easy, and 0 of its"),
        ("{min_pass_rate: 0.5}", "grade the data set"),
    ],
)
def test_a_part_that_holds_no_prompt_is_named(tmp_path: Path, part: str, words: str) -> None:
    parts = f"curriculum.stages.easy.data.parts={{whole: {{}}, typo: {part}}}"
    with pytest.raises(E3Error, match=rf"stage easy: data.parts.typo holds no prompt.*{words}"):
        checked(tmp_path, small_plan(parts))


@pytest.mark.parametrize(
    ("num_training", "num_held_out", "words"),
    [
        (9, 7, "stage few: task: asked for 320 held-out problems; there are 7"),
        (0, 400, "stage few: its task has no training problems"),
    ],
)
def test_a_file_with_too_few_problems_is_found(
    tmp_path: Path, num_training: int, num_held_out: int, words: str
) -> None:
    file = tmp_path / "problems.parquet"
    rows = tuple(TextProblem(f"1 2 {n} : {3 + n}", "3") for n in range(num_training + num_held_out))
    write_problems(file, ProblemSet(rows[:num_training], rows[num_training:]))
    resolved = resolve_spec(TEXT, sets=[f"task.problems={file}"])
    with pytest.raises(E3Error, match=words):
        checked(tmp_path, compile_plan(resolved.options))
