"""A scheduler's task on one node: ``python -m e3mega.run.node RUN_DIR --launch NAME``.

It becomes the guard of the node's supervisor, as ``e3mega run`` is on one machine.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from e3mega.device import node_place
from e3mega.errors import E3Error
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import LEFT_STATUS
from e3mega.run.attempts import Attempt, read_attempts
from e3mega.run.begin_behind import begin_behind
from e3mega.run.board import Board
from e3mega.run.ending import complain
from e3mega.run.folder import open_folder, take_lock
from e3mega.run.local import run_supervisor


def run_node(options: argparse.Namespace) -> int:
    """Run one node's part of a launch; the task's exit status."""
    place = node_place()
    node = options.first_node + place.rank
    launch = f"{options.launch}.{place.restarts}"
    paths = RunPaths(options.run_dir)
    if not paths.plan.exists():
        raise E3Error(
            f"node {node}: there is no run in {paths.run_dir}; does this node see the folder that "
            "the run was launched from?"
        )
    passed = (options.pass_env,) if options.pass_env else ()
    if node > 0:
        return run_supervisor(paths, node, launch, passed, keep_open=())
    return _run_head(options, paths, launch, passed, is_queued_again=place.restarts > 0)


def _run_head(
    options: argparse.Namespace,
    paths: RunPaths,
    launch: str,
    passed: tuple[str, ...],
    *,
    is_queued_again: bool,
) -> int:
    """Node 0's part: it alone holds the lock and decides whether there is anything to do."""
    open_folder(paths.run_dir)
    lock = take_lock(paths)
    try:
        if options.continues or is_queued_again:
            attempts = read_attempts(paths.exit_reason)
            why_not, status = why_not_continued(attempts[-1] if attempts else None)
            if why_not:
                Board(paths, launch).give_order(
                    attempt=-1, ending=why_not, exit_code=status, is_over=True
                )
                complain(f"e3mega: {why_not}")
                return status
        try:
            begin_behind(paths)
        except E3Error as error:
            # The other nodes wait for an order.
            Board(paths, launch).give_order(
                attempt=-1, ending=str(error), exit_code=error.exit_code, is_over=True
            )
            raise
        return run_supervisor(paths, 0, launch, passed, keep_open=(lock,))
    finally:
        os.close(lock)


def why_not_continued(newest: Attempt | None) -> tuple[str, int]:
    """Why a later job of a chain has nothing to do, and its exit status; empty when it has.

    It goes on after a run that left at a checkpoint, or was killed by the scheduler or a fault of
    the machine. It does not repeat what ended for a reason of its own.
    """
    if newest is None or newest.exit is None or newest.exit == LEFT_STATUS or newest.exit > 128:
        was_asked = newest is not None and "e3mega stop" in newest.reason
        return ("the run was stopped; continue it with e3mega resume", 0) if was_asked else ("", 0)
    if newest.exit == 0:
        return "the run is finished", 0
    return f"not continued, since the run failed: {newest.reason}", newest.exit


def main(argv: list[str]) -> int:
    """Run the task; the reason of a failure is the last line."""
    parser = argparse.ArgumentParser(prog="e3mega.run.node")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--launch", required=True)
    parser.add_argument("--first-node", type=int, default=0)
    parser.add_argument("--pass-env", default="")
    parser.add_argument("--continues", action="store_true")
    try:
        return run_node(parser.parse_args(argv))
    except E3Error as error:
        complain(f"e3mega: {error}")
        return error.exit_code
    finally:
        # When one task has left, Slurm ends the others by SIGTERM and takes the highest status of
        # all: one that is about to leave keeps its own.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
