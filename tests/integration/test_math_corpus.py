"""A corpus of mathematics answers with labels, graded in the real workers.

The corpus, ``tests/data/math_answers``, was written for this project: one answer a line, behind
the truth and a tab. ``REPEAT n text`` stands for the text n times over.
"""

import asyncio
import json
import time
from pathlib import Path

from e3mega.tasks.failure import Failure
from e3mega.tasks.grading_pool import Grade, GradingLimits, GradingPool
from e3mega.tasks.math.answers import find_answer

CORPUS = Path(__file__).parents[1] / "data" / "math_answers"
GRADER = "e3mega.tasks.math.grader"
MEMORY = 2 << 30
HOSTILE_LIMIT_S = 1.0


def corpus(name: str) -> list[tuple[str, str]]:
    """Truths with answers, written out."""
    pairs = []
    for line in (CORPUS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        truth, answer = line.split("\t")
        if answer.startswith("REPEAT "):
            _, count, text = answer.split(" ", 2)
            answer = text * int(count)
        pairs.append((truth, answer))
    return pairs


def grade_all(pairs: list[tuple[str, str]], time_limit_s: float) -> list[Grade]:
    """The grades of whole responses that hold these answers."""

    async def one(pool: GradingPool, truth: str, text: str) -> Grade:
        answer, failure = find_answer(f"</think> \\boxed{{{text}}}", needs_think_end=True)
        if failure is not Failure.NONE:
            return Grade(0.0, failure)
        return await pool.grade(json.dumps([truth]), answer)

    async def run() -> list[Grade]:
        async with GradingPool(GradingLimits(GRADER, 2, time_limit_s, MEMORY)) as pool:
            return await asyncio.gather(*(one(pool, *pair) for pair in pairs))

    return asyncio.run(run())


def test_the_corpus_is_graded_as_its_labels_say() -> None:
    """All disagreements are listed by the message of the failure."""
    labels = {"right": 1.0, "equivalent": 1.0, "wrong": 0.0, "malformed": 0.0}
    rows = [(name, *pair) for name in labels for pair in corpus(name)]
    assert len(rows) + len(corpus("hostile")) >= 300
    grades = grade_all([(truth, answer) for _, truth, answer in rows], 30.0)
    disagreements = [
        (name, truth, answer, grade)
        for (name, truth, answer), grade in zip(rows, grades, strict=True)
        if grade.score != labels[name]
    ]
    assert disagreements == []
    failures = {
        name: {g.failure for r, g in zip(rows, grades, strict=True) if r[0] == name}
        for name in labels
    }
    assert failures["right"] == failures["wrong"] == {Failure.NONE}
    assert Failure.UNREADABLE in failures["malformed"]


def test_hostile_answers_earn_nothing_and_stay_within_their_limits() -> None:
    pairs = corpus("hostile")
    start = time.monotonic()
    grades = grade_all(pairs, HOSTILE_LIMIT_S)
    seconds = time.monotonic() - start
    assert [pair for pair, grade in zip(pairs, grades, strict=True) if grade.score] == []
    num_killed = sum(grade.failure is Failure.TIME for grade in grades)
    assert num_killed > 5, "some of them would never end"
    # Two workers; a new one takes a second or more to start when the machine is busy.
    assert seconds < 30 + num_killed * (HOSTILE_LIMIT_S + 3)
    assert not Path("/tmp/e3mega-hostile").exists()


def test_one_of_several_truths_is_enough() -> None:
    async def run() -> list[float]:
        async with GradingPool(GradingLimits(GRADER, 1, 30.0, MEMORY)) as pool:
            truths = json.dumps(["7", r"\frac{1}{2}"])
            return [(await pool.grade(truths, answer)).score for answer in ("0.5", "7", "8")]

    assert asyncio.run(run()) == [1.0, 1.0, 0.0]
