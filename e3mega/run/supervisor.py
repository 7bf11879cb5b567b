"""The supervisor's process on one node: starts the node's jobs, watches them, ends them together.

Started by ``e3mega.run.local`` or ``e3mega.run.node`` as ``python -m e3mega.run.supervisor RUN_DIR
NODE LAUNCH [VARIABLES]``. Node 0 decides for the whole run; its last line says how that ended.
"""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from e3mega.errors import E3Error
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, read_plan
from e3mega.run.attempts import begin_attempt, end_attempt
from e3mega.run.ending import Ending, complain, conclude
from e3mega.run.folder import clear_leftovers, remove_shared_memory, unwritable
from e3mega.run.head import Head
from e3mega.run.meeting import places_of_node, wait_for_order
from e3mega.run.member import Member
from e3mega.run.node_jobs import NodeJobs
from e3mega.run.processes import adopt_orphans, kill_descendants
from e3mega.run.provenance import write_node_facts, write_run_facts
from e3mega.run.segments import note_segments
from e3mega.run.station import Station
from e3mega.run.views.display import open_display


@dataclass(frozen=True, slots=True)
class _Post:
    """A supervisor's place: the run, its node's reports and its node's jobs."""

    plan: Plan
    paths: RunPaths
    station: Station
    jobs: NodeJobs


def supervise(
    run_dir: Path, node: int, launch: str, console: Console, *, passed: Sequence[str] = ()
) -> int:
    """Run one node to its end; its exit status. No process of it outlives this call."""
    paths = RunPaths(run_dir)
    plan = read_plan(paths.plan)
    adopt_orphans()
    station = Station(paths, node=node, launch=launch)
    jobs = NodeJobs(
        plan, paths, node, lambda attempt: places_of_node(plan, paths, node, attempt), passed
    )
    post = _Post(plan, paths, station, jobs)
    with _collected_signals() as signals:
        return _lead(post, console, signals) if node == 0 else _follow(post, signals)


def _lead(post: _Post, console: Console, signals: list[int]) -> int:
    """Node 0: begin an attempt, give the orders, and tell how the run ended."""
    plan, paths, station = post.plan, post.paths, post.station
    clear_leftovers(paths)
    attempt = begin_attempt(paths.exit_reason)
    write_run_facts(paths, attempt)
    write_node_facts(paths, attempt, station.node)
    head = Head(plan, paths, station, post.jobs, attempt)
    ending = Ending("the supervisor failed", 1)
    try:
        try:
            # Jobs are forked before anything that may start threads.
            station.board.give_order(attempt=attempt)
            post.jobs.start(attempt)
            ending = _show(head, post, console, signals)
        except (E3Error, OSError) as error:
            ending = Ending(str(error), 1)
            raise
        finally:
            station.board.give_order(
                attempt=head.attempt, ending=ending.reason, exit_code=ending.exit_code
            )
            head.close()
            kill_descendants()
            remove_shared_memory(paths, station.node)
            end_attempt(paths.exit_reason, reason=ending.reason, exit_code=ending.exit_code)
        return conclude(ending, plan, paths, console)
    finally:
        # The other nodes wait for it, however this one ends.
        station.board.give_order(
            attempt=head.attempt, ending=ending.reason, exit_code=ending.exit_code, is_over=True
        )


def _show(head: Head, post: _Post, console: Console, signals: list[int]) -> Ending:
    """Watch the run on a display, then stop the jobs."""
    display = open_display(console, post.plan.name)
    try:
        ending = head.watch(display, signals)
        head.show(display)
    finally:
        display.close()
    if ending.exit_code != 0:
        names = ", ".join(job.name for job in post.plan.jobs)
        console.print(f"stopping {names}", highlight=False)
    _stop(post, signals)
    return ending


def _follow(post: _Post, signals: list[int]) -> int:
    """Another node: wait for node 0, then obey it."""
    paths, station = post.paths, post.station
    order = wait_for_order(post.plan, paths, station)
    if order.attempt >= 0:
        write_node_facts(paths, order.attempt, station.node)
    member = Member(post.plan, paths, station, post.jobs)
    try:
        ending = member.watch(signals)
        _stop(post, signals)
        member.wait_until_over(signals)
    finally:
        member.close()
        kill_descendants()
        remove_shared_memory(paths, station.node)
    complain(f"node {station.node}: {ending.reason}")
    return ending.exit_code


def _stop(post: _Post, signals: list[int]) -> None:
    """End all jobs and their descendants; a further signal means at once."""
    given = len(signals)
    # What a job mapped since the last look is known only while it lives.
    note_segments(post.paths.segments(post.station.node))
    post.jobs.stop(lambda: len(signals) > given)


@contextmanager
def _collected_signals() -> Iterator[list[int]]:
    """The signals that ask to stop or to leave, as they arrive."""
    received: list[int] = []

    def collect(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
    for number in asking:
        signal.signal(number, collect)
    # The supervisor is in the background of its terminal, where writing may stop a process.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    yield received


def main(argv: list[str]) -> int:
    """Supervise one node of the run of a run folder."""
    # Slurm gives a task's output a terminal of its own, whose text goes to a log.
    console = Console(force_terminal=None if sys.stdin.isatty() else False)
    run_dir, node, launch = Path(argv[0]), int(argv[1]), argv[2]
    passed = argv[3].split(",") if len(argv) > 3 else ()
    try:
        return supervise(run_dir, node, launch, console, passed=passed)
    except E3Error as error:
        complain(f"e3mega: {error}")
        return error.exit_code
    except OSError as error:
        complain(f"e3mega: {unwritable(run_dir, error)}")
        return E3Error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
