"""A loop job for tests of sweeps: the real loop among fakes; ``python -m`` this, RUN_DIR.

It is killed once where a file ``kill-NAME`` lies beside the run folder, and fails wherever a file
``fail-NAME`` does.
"""

import os
import signal
import sys
from pathlib import Path

from e3mega.loop.wiring import first_state
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import read_plan
from tests.unit.run.test_shared_stages import trained


def main(run_dir: Path) -> int:
    """Run the plan from where the folder stands."""
    kill, fail = (run_dir.with_name(f"{word}-{run_dir.name}") for word in ("kill", "fail"))
    if kill.exists():
        kill.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if fail.exists():
        return 1
    paths = RunPaths(run_dir)
    state = first_state(paths, MetricsWriter(paths.metrics("loop")))
    trained(read_plan(paths.plan), paths, state)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
