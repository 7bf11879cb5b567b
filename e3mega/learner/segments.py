"""The learner's job where stages differ in their grid: one torchrun after the other.

``python -m e3mega.learner.segments RUN_DIR ATTEMPT TORCHRUN...``. Consumes the folders that the
loop makes as it enters a segment, produces the segment's ranks; waits for the ranks before to
leave. The ranks load the newest checkpoint, which the loop ordered before it let those before go.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from e3mega.errors import JobError
from e3mega.plan.jobs import NUM_RANKS, SEGMENT, learner_environment
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, learner_plan, read_plan
from e3mega.plan.topology import num_learner_ranks
from e3mega.rollout.whole_file import write_whole

_POLL_S = 0.1
_PR_SET_PDEATHSIG = 1
_HOST, _PORT = "--master-addr=", "--master-port="


def main(run_dir: Path, attempt: int, torchrun: Sequence[str]) -> int:
    """Run the ranks of every segment from the loop's first one on; the first bad exit status."""
    paths = RunPaths(run_dir)
    plan = read_plan(paths.plan)
    last = plan.stages[-1].segment
    segment = -1
    while segment < last:
        segment = _entered(paths, attempt, above=segment, last=last)
        try:
            words = _meeting_anew(torchrun, paths.learner_port(attempt, segment), plan)
        except JobError as error:
            print(json.dumps({"reason": f"learner: segment {segment}: {error}"}), file=sys.stderr)
            return error.exit_code
        status = _run(plan, words, segment)
        if status != 0:
            return status if status > 0 else 128 - status
    return 0


def _entered(paths: RunPaths, attempt: int, *, above: int, last: int) -> int:
    """The segment that the loop is in, once it is above the last one that was run."""
    while True:
        for segment in range(last, above, -1):
            if paths.attempt_commands(attempt, segment).exists():
                return segment
        time.sleep(_POLL_S)


def _meeting_anew(torchrun: Sequence[str], file: Path, plan: Plan) -> Sequence[str]:
    """The command with a port that the ranks of several nodes have not met at before.

    At the old one a node that is quicker than the first might find the segment before. The first
    node produces the file with the port; the others wait for it. Raises JobError at the deadline.
    """
    if "--nnodes=1" in torchrun:
        return torchrun
    if "--node-rank=0" in torchrun:
        host = next(word for word in torchrun if word.startswith(_HOST)).removeprefix(_HOST)
        with socket.socket() as probe:
            probe.bind((host, 0))
            write_whole(file, str(probe.getsockname()[1]).encode())
    deadline_s = plan.cluster.node_deadline_s
    deadline = time.monotonic() + deadline_s
    while not file.exists():
        if time.monotonic() > deadline:
            raise JobError(f"waited {deadline_s:g} s for the learner's first node to write {file}")
        time.sleep(_POLL_S)
    port = file.read_text(encoding="utf-8")
    return [f"{_PORT}{port}" if word.startswith(_PORT) else word for word in torchrun]


def _run(plan: Plan, torchrun: Sequence[str], segment: int) -> int:
    grid = learner_plan(plan, segment).layout.learner
    num_nodes = next(int(word[9:]) for word in torchrun if word.startswith("--nnodes="))
    num_ranks = str(num_learner_ranks(grid) // num_nodes)
    argv = [word.replace(NUM_RANKS, num_ranks).replace(SEGMENT, str(segment)) for word in torchrun]
    print(f"segment {segment}: {' '.join(argv)}", flush=True)
    environment = {**os.environ, **learner_environment(grid)}
    return subprocess.Popen(argv, env=environment, preexec_fn=_die_with(os.getpid())).wait()


def _die_with(parent: int) -> Callable[[], None]:
    """What a child calls before exec so that the kernel kills it when this process dies."""

    def tie() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
