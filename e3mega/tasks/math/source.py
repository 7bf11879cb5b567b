"""Has a process of its own read a data set, so that ``datasets`` is not loaded here."""

import subprocess
import sys
import tempfile
from pathlib import Path

from e3mega.errors import E3Error
from e3mega.tasks.math.options import MathOptions
from e3mega.tasks.text_problems import ProblemSet, read_problems

_DEADLINE_S = 1800.0


def load_problems(options: MathOptions, seed: int) -> ProblemSet:
    """The problems of the options' source; E3Error with the reason if it cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "problems.parquet"
        done = subprocess.run(
            [sys.executable, "-m", "e3mega.tasks.math.load", str(seed), str(output)],
            input=options.model_dump_json(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_DEADLINE_S,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["it ended without a word"]
            raise E3Error(f"task.source = {options.source or options.layout.value}: {lines[-1]}")
        return read_problems(str(output))
