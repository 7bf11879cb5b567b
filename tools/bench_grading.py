"""Measures how many mathematics answers a second the grading workers compare.

``python tools/bench_grading.py [--workers N] [--answers N]``. The answers are those of
``tests/data/math_answers`` that have an end: right, equivalent, wrong and malformed ones.
"""

import argparse
import asyncio
import json
import statistics
import time
from itertools import cycle, islice
from pathlib import Path

from e3mega.tasks.grading_pool import GradingLimits, GradingPool

CORPUS = Path(__file__).parents[1] / "tests" / "data" / "math_answers"
KINDS = ("right", "equivalent", "wrong", "malformed")


def pairs() -> list[tuple[str, str]]:
    """Truths as the grader takes them, with answers."""
    found = []
    for kind in KINDS:
        for line in (CORPUS / f"{kind}.txt").read_text(encoding="utf-8").splitlines():
            truth, answer = line.split("\t")
            found.append((json.dumps([truth]), answer))
    return found


async def measure(num_workers: int, num_answers: int) -> None:
    """Print answers a second and the seconds of single answers, workers started before."""
    limits = GradingLimits("e3mega.tasks.math.grader", num_workers, 5.0, 2 << 30)
    async with GradingPool(limits) as pool:
        await asyncio.gather(*(pool.grade('["1"]', "1") for _ in range(num_workers)))
        turn = asyncio.Semaphore(num_workers)

        async def one(truth: str, answer: str) -> float:
            async with turn:
                start = time.perf_counter()
                await pool.grade(truth, answer)
                return time.perf_counter() - start

        start = time.perf_counter()
        seconds = await asyncio.gather(
            *(one(*pair) for pair in islice(cycle(pairs()), num_answers))
        )
        total = time.perf_counter() - start
    quantiles = statistics.quantiles(seconds, n=100)
    print(
        f"{num_answers / total:.0f} answers/s with {num_workers} workers; one answer: median "
        f"{1e3 * quantiles[49]:.1f} ms, 99 % below {1e3 * quantiles[98]:.1f} ms, "
        f"longest {1e3 * max(seconds):.0f} ms"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--answers", type=int, default=2000)
    options = parser.parse_args()
    asyncio.run(measure(options.workers, options.answers))
