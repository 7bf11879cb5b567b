"""Splits by pass rate, and gradings that are killed and go on."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e3mega.errors import E3Error, TierError
from e3mega.evaluate.difficulty import Thresholds, by_quantiles, by_thresholds
from e3mega.evaluate.grade_journal import GradedProblem, GradeJournal
from e3mega.evaluate.grading import Sampling, ToGrade, grade_problems
from e3mega.rollout.records import Completion, GroupRequest
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.task import CountdownTask
from tests.fakes import FakeServer

TASK = CountdownTask(CountdownOptions(kind="countdown"), 1)
SAMPLING = Sampling(4, 96, 1.0, 1.0, 0, 7, 0)


def test_the_papers_thresholds() -> None:
    rates = [0.0, 1 / 16, 10 / 16, 11 / 16, 1.0]
    names = by_thresholds(rates, Thresholds(10 / 16, 0.0))
    assert names == ["hard", "medium", "medium", "easy", "easy"]


def test_quantiles_are_even_and_keep_equal_rates_together() -> None:
    rates = [i / 100 for i in range(100)]
    names = by_quantiles(rates, 4)
    assert [names.count(f"part_{n}") for n in (1, 2, 3, 4)] == [25, 25, 25, 25]
    assert names[0] == "part_1" and names[-1] == "part_4"
    tied = by_quantiles([0.0] * 60 + [0.5] * 20 + [1.0] * 20, 2)
    assert tied == ["part_1"] * 60 + ["part_2"] * 40
    assert by_quantiles([0.3] * 5, 3) == ["part_2"] * 5


@dataclass
class CountingServer:
    """Answers with traces of the task, and fails after a number of requests."""

    fail_after: int | None = None
    asked: list[int] = field(default_factory=list)

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise TierError("generation_0: gone")
        self.asked.append(request.index)
        return await FakeServer(TASK).generate(request)


def problems() -> list[ToGrade]:
    return [ToGrade(i, TASK.training_prompt(i), "train") for i in range(40)]


def grade(journal: GradeJournal, server: CountingServer) -> list[GradedProblem]:
    done = {each.index for each in journal.finished()}
    graded: list[GradedProblem] = []
    asyncio.run(
        grade_problems(
            (each for each in problems() if each.index not in done),
            task=TASK,
            generators=(server,),
            sampling=SAMPLING,
            num_in_flight=6,
            journal=journal,
            on_graded=graded.append,
        )
    )
    return graded


@pytest.mark.parametrize("fail_after", [0, 1, 17, 39])
def test_a_grading_goes_on_where_it_failed_and_asks_for_nothing_twice(
    fail_after: int, tmp_path: Path
) -> None:
    whole = CountingServer()
    grade(GradeJournal(tmp_path / "whole.jsonl", {"a": 1}), whole)
    first, second = CountingServer(fail_after), CountingServer()
    path = tmp_path / "halved.jsonl"
    with pytest.raises(TierError):
        grade(GradeJournal(path, {"a": 1}), first)
    grade(GradeJournal(path, {"a": 1}), second)
    assert sorted(first.asked + second.asked) == list(range(40))
    wanted = sorted(GradeJournal(tmp_path / "whole.jsonl", {"a": 1}).finished(), key=_index)
    assert sorted(GradeJournal(path, {"a": 1}).finished(), key=_index) == wanted


def _index(graded: GradedProblem) -> int:
    return graded.index


def test_a_torn_line_costs_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "torn.jsonl"
    grade(GradeJournal(path, {"a": 1}), CountingServer())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 9])
    assert len(list(GradeJournal(path, {"a": 1}).finished())) == 39
    server = CountingServer()
    grade(GradeJournal(path, {"a": 1}), server)
    assert len(server.asked) == 1
    assert len(list(GradeJournal(path, {"a": 1}).finished())) == 40


def test_another_grading_is_not_mixed_in(tmp_path: Path) -> None:
    GradeJournal(tmp_path / "a.jsonl", {"samples": 4})
    with pytest.raises(E3Error, match="another grading"):
        GradeJournal(tmp_path / "a.jsonl", {"samples": 8})


def test_pass_rates_are_those_of_the_marks(tmp_path: Path) -> None:
    journal = GradeJournal(tmp_path / "a.jsonl", {})
    for graded in grade(journal, CountingServer()):
        prompt = TASK.training_prompt(graded.index)
        assert graded.problem == prompt.problem
        whole = [each for each in graded.samples if not each.is_truncated]
        assert [each.reward for each in whole] == [
            TASK.mark(prompt, _ids(each.text)).reward for each in whole
        ]
        assert graded.pass_rate == sum(each.reward for each in graded.samples) / 4


def _ids(text: str) -> tuple[int, ...]:
    return (*TASK._tokenizer.ids(text), *TASK.end_token_ids)
