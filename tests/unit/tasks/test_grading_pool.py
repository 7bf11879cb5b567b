"""Workers that answers try to break: each costs its limit at most, and the pool goes on."""

import asyncio
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from e3mega.errors import JobError
from e3mega.tasks.failure import Failure
from e3mega.tasks.grading_pool import Grade, GradingLimits, GradingPool

GRADER = '''
"""A grader that does what the answer says."""
import os, socket, subprocess, sys, time

def grade(truth, answer):
    if answer == "hang":
        while True:
            pass
    if answer == "big integer":
        return float(9 ** 9 ** 9 == 0), ""
    if answer == "memory":
        return float(len(bytearray(1 << 34))), ""
    if answer == "memory in pieces":
        kept = []
        while True:
            kept.append(bytearray(1 << 24))
    if answer == "exit":
        os._exit(3)
    if answer == "leave":
        sys.exit(3)
    if answer == "raise":
        raise RuntimeError("no")
    if answer == "recurse":
        return grade(truth, answer)
    if answer == "print":
        print("[1.0, \\"\\"]", flush=True)
        os.write(1, b"[1.0, \\"\\"]\\n")
    if answer == "shell":
        os.system("touch " + truth)
    if answer == "program":
        subprocess.run(["touch", truth])
    if answer == "fork":
        os.fork()
    if answer == "write":
        open(truth, "w").write("x")
    if answer == "low write":
        os.write(os.open(truth, os.O_CREAT | os.O_WRONLY), b"x")
    if answer == "socket":
        socket.create_connection(("127.0.0.1", 1))
    if answer == "quiet write":
        try:
            open(truth, "w").write("x")
        except Exception:
            return 1.0, ""
    return float(truth == answer), ""
'''
TIME_LIMIT_S = 2.0


def limits(folder: Path, num_workers: int = 1) -> GradingLimits:
    path = folder / "grader.py"
    path.write_text(GRADER, encoding="utf-8")
    return GradingLimits(str(path), num_workers, TIME_LIMIT_S, 1 << 28)


HOSTILE = {
    "hang": Failure.TIME,
    "big integer": Failure.TIME,
    "memory": Failure.MEMORY,
    "memory in pieces": Failure.MEMORY,
    "exit": Failure.CRASH,
    "leave": Failure.CRASH,
    "raise": Failure.CRASH,
    "recurse": Failure.CRASH,
    "shell": Failure.FORBIDDEN,
    "program": Failure.FORBIDDEN,
    "fork": Failure.FORBIDDEN,
    "write": Failure.FORBIDDEN,
    "low write": Failure.FORBIDDEN,
    "socket": Failure.FORBIDDEN,
    "quiet write": Failure.FORBIDDEN,
}


def test_a_hostile_answer_costs_its_limit_and_the_next_one_is_graded(tmp_path: Path) -> None:
    target = str(tmp_path / "written")

    async def check() -> None:
        async with GradingPool(limits(tmp_path)) as pool:
            for answer, failure in HOSTILE.items():
                start = time.monotonic()
                assert await pool.grade(target, answer) == Grade(0.0, failure), answer
                # The start of a worker in place of the last one killed is in this time as well.
                assert time.monotonic() - start < TIME_LIMIT_S + 5, answer
                assert await pool.grade("x", "x") == Grade(1.0, Failure.NONE), answer

    asyncio.run(check())
    assert not os.path.exists(target)


@pytest.mark.parametrize("flags", ["O_WRONLY | os.O_TRUNC", "O_RDWR", "O_CREAT"])
def test_a_file_opened_by_hand_stays_as_it_is(flags: str, tmp_path: Path) -> None:
    target = tmp_path / "kept"
    target.write_text("kept")
    grade = grade_of(tmp_path, f'os.open("{target}", os.{flags}); return 1.0, ""')
    assert grade == Grade(0.0, Failure.FORBIDDEN) and target.read_text() == "kept"


def grade_of(folder: Path, body: str) -> Grade:
    """Of a grader with this body."""
    path = folder / "own.py"
    path.write_text(f"import os\n\ndef grade(truth, answer):\n    {body}\n", encoding="utf-8")

    async def ask() -> Grade:
        async with GradingPool(GradingLimits(str(path), 1, TIME_LIMIT_S, 1 << 28)) as pool:
            await pool.grade("x", "x")
            return await pool.grade("x", "x")

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "body",
    [
        *("return 1.0", "pass", 'return 0.0, "wrong"', "return 1.0, None", 'return "1", ""'),
        *('return float("nan"), ""', 'return float("inf"), ""', 'return 1.0, "", ""'),
    ],
)
def test_a_grader_that_gives_no_grade_is_an_error(body: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"own\.py: grade gave .*; need a pair of a finite number"):
        grade_of(tmp_path, body)


@pytest.mark.parametrize("body", ['return True, ""', 'return [1, ""]'])
def test_whole_numbers_and_lists_are_grades_too(body: str, tmp_path: Path) -> None:
    assert grade_of(tmp_path, body) == Grade(1.0, Failure.NONE)


def test_why_a_grader_of_ones_own_fails_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert grade_of(tmp_path, 'return no_such_name, ""') == Grade(0.0, Failure.CRASH)
    (line,) = capsys.readouterr().err.splitlines()
    assert "own.py: the answer breaks the grader: NameError: name 'no_such_name'" in line


def test_what_a_grader_prints_is_no_verdict(tmp_path: Path) -> None:
    async def check() -> None:
        async with GradingPool(limits(tmp_path)) as pool:
            assert await pool.grade("x", "print") == Grade(0.0, Failure.NONE)
            assert await pool.grade("x", "y") == Grade(0.0, Failure.NONE)

    asyncio.run(check())


def test_a_hanging_answer_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def check() -> list[Grade]:
        async with GradingPool(limits(tmp_path, num_workers=2)) as pool:
            await asyncio.gather(pool.grade("x", "x"), pool.grade("x", "x"))
            start = time.monotonic()
            hanging = asyncio.create_task(pool.grade("x", "hang"))
            grades = [await pool.grade("x", "x") for _ in range(50)]
            assert time.monotonic() - start < TIME_LIMIT_S
            return [await hanging, *grades]

    grades = asyncio.run(check())
    assert grades == [Grade(0.0, Failure.TIME), *[Grade(1.0, Failure.NONE)] * 50]


def test_no_worker_outlives_its_pool_or_a_cancelled_answer(tmp_path: Path) -> None:
    async def check() -> list[psutil.Process]:
        pool = GradingPool(limits(tmp_path, num_workers=2))
        await asyncio.gather(pool.grade("x", "x"), pool.grade("x", "x"))
        workers = [p for p in psutil.Process().children() if "grading_worker" in str(p.cmdline())]
        assert len(workers) == 2
        hanging = asyncio.create_task(pool.grade("x", "hang"))
        await asyncio.sleep(0.1)
        hanging.cancel()
        assert await pool.grade("x", "x") == Grade(1.0, Failure.NONE)
        await pool.close()
        return workers

    assert not any(worker.is_running() for worker in asyncio.run(check()))


def test_a_signal_that_a_scheduler_sends_to_all_ends_no_grading(tmp_path: Path) -> None:
    """The answer of a worker that it ended would count as wrong."""

    async def check() -> Grade:
        async with GradingPool(limits(tmp_path)) as pool:
            await pool.grade("x", "x")
            found = psutil.Process().children()
            for worker in (p for p in found if "grading_worker" in str(p.cmdline())):
                worker.send_signal(signal.SIGUSR1)
                worker.send_signal(signal.SIGTERM)
            return await pool.grade("x", "x")

    assert asyncio.run(check()) == Grade(1.0, Failure.NONE)


@pytest.mark.parametrize("text", ["import no_such_module", 'raise ValueError("no_such_module")'])
def test_a_grader_that_cannot_be_loaded_is_an_error_with_its_reason(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(f"{text}\n", encoding="utf-8")

    async def check() -> None:
        async with GradingPool(GradingLimits(str(path), 1, 1.0, 1 << 30)) as pool:
            await pool.grade("x", "x")

    with pytest.raises(JobError, match="no_such_module"):
        asyncio.run(check())
