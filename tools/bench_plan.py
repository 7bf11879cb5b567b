"""Measures how long the commands of planning take, each in a process of its own.

``python tools/bench_plan.py [--repeat N] [SPEC ...]`` prints the least and the median of wall and
processor seconds; the least is what the machine takes when nothing else runs.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from e3mega.spec.files import LIBRARY

PROGRAM = Path(sys.executable).parent / "e3mega"
LIMITS_S = {"--help": 0.3, "plan": 0.5}
"""Longest that a command may take on two idle cores."""


def measure(arguments: list[str], repeat: int) -> tuple[list[float], list[float]]:
    """Wall and processor seconds of each repetition after a first one that warms the disk."""
    wall, processor = [], []
    for number in range(repeat + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([PROGRAM, *arguments], stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if number:
            wall.append(seconds)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            processor.append(used)
    return wall, processor


def main() -> None:
    """Print one line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default: 5)")
    parser.add_argument("specs", nargs="*", help="default: every shipped run")
    options = parser.parse_args()
    runs = LIBRARY / "runs"
    shipped = [str(path.relative_to(runs))[:-5] for path in sorted(runs.rglob("*.yaml"))]
    commands = [["--help"], *(["plan", spec] for spec in options.specs or shipped)]
    print(f"{'command':<44}{'least':>8}{'median':>8}{'cpu':>8}{'limit':>8}  seconds")
    for arguments in commands:
        wall, processor = measure(arguments, options.repeat)
        limit = LIMITS_S[arguments[0]]
        print(
            f"{' '.join(arguments):<44}{min(wall):8.2f}{median(wall):8.2f}{min(processor):8.2f}"
            f"{limit:8.1f}"
        )


if __name__ == "__main__":
    main()
