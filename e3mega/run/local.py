"""Runs a plan on this machine: makes or opens the run folder and starts its supervisor."""

import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from e3mega.errors import E3Error
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, read_plan
from e3mega.plan.set_caps import append_caps, parse_caps
from e3mega.run.attempts import end_attempt, read_attempts
from e3mega.run.causes import exit_words
from e3mega.run.creation import create_folder
from e3mega.run.folder import open_folder, remove_shared_memory, shown, take_lock
from e3mega.run.guard import end_by_signal, run_guarded


def start_run(plan: Plan, resolved_text: str, run_dir: Path, *, source: Path | None = None) -> int:
    """Start a new run in a folder of its own and stay until it ends; its exit status.

    ``source`` is the folder of a run whose stages this one shares and begins behind. Raises E3Error
    when the folder holds a run, is locked or cannot be written, the plan has more nodes than this
    one, or the runs share no stage.
    """
    _check_nodes(plan)
    paths = RunPaths(run_dir.resolve())
    open_folder(paths.run_dir)
    lock = take_lock(paths)
    try:
        shared = create_folder(
            plan, resolved_text, paths, source=None if source is None else RunPaths(source)
        )
        if shared is not None:
            print(
                f"{plan.name} begins behind {', '.join(shared.stages)} of {shared.name}, "
                f"after {shared.version} steps"
            )
        return _supervised(paths, lock)
    finally:
        os.close(lock)


def resume_run(run_dir: Path) -> int:
    """Continue a run from its newest checkpoint and stay until it ends; its exit status.

    Raises E3Error when the folder holds no run, its run is finished or at work, RecordError when
    its plan is of another version of e3mega.
    """
    paths = _run_paths(run_dir)
    lock = take_lock(paths)
    try:
        _check_nodes(read_plan(paths.plan))
        attempts = read_attempts(paths.exit_reason)
        if attempts and attempts[-1].exit == 0:
            raise E3Error(
                f"{shown(paths.run_dir)} is finished; see {shown(paths.report)}, or start "
                "another run from its spec"
            )
        return _supervised(paths, lock)
    finally:
        os.close(lock)


def set_caps(run_dir: Path, sets: Sequence[str]) -> None:
    """Set caps of a run that is not at work, for all its attempts from the next one on.

    Raises E3Error with what is no cap, and when the folder holds no run or its run is at work.
    """
    paths = _run_paths(run_dir)
    caps = parse_caps(read_plan(paths.plan), sets)
    lock = take_lock(paths)
    try:
        append_caps(paths.set_caps, caps)
    finally:
        os.close(lock)


def _run_paths(run_dir: Path) -> RunPaths:
    """The paths of a folder that holds a run."""
    paths = RunPaths(run_dir.resolve())
    if not paths.plan.exists():
        raise E3Error(
            f"{run_dir} holds no run ({paths.plan.name} is missing); name the folder that "
            "`e3mega run` made"
        )
    return paths


def _check_nodes(plan: Plan) -> None:
    if plan.num_nodes > 1:
        raise E3Error(
            f"{plan.name} needs {plan.num_nodes} nodes; launch it with e3mega launch, or set "
            "cluster.learner_nodes=1, cluster.generation_nodes=0 and cluster.has_loop_node=false"
        )


def _supervised(paths: RunPaths, lock: int) -> int:
    """Run the only node's supervisor under the lock."""
    launch = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
    return run_supervisor(paths, 0, launch, (), keep_open=(lock,))


def run_supervisor(
    paths: RunPaths, node: int, launch: str, words: Sequence[str], *, keep_open: tuple[int, ...]
) -> int:
    """Run a node's supervisor, and speak for it if it was killed; the exit status."""
    argv = ("e3mega.run.supervisor", str(paths.run_dir), str(node), launch, *words)
    status = run_guarded(argv, keep_open=keep_open)
    if status >= 0:
        return status
    reason = f"the supervisor {exit_words(status)}"
    remove_shared_memory(paths, node)
    if node == 0 and paths.exit_reason.exists():
        end_attempt(paths.exit_reason, reason=reason, exit_code=end_by_signal(-status))
    print(f"the run can be resumed: e3mega resume {shown(paths.run_dir)}", file=sys.stderr)
    print(f"e3mega: the run did not finish: {reason}", file=sys.stderr)
    return end_by_signal(-status)
