"""The supervisor's process: starts a run's jobs, watches them, and ends them all together.

Consumes: plan.json, the jobs' exit statuses, the loop's metrics, signals. Produces: logs, a line
of attempts.jsonl, the report, what a person sees. Started by ``e3mega.run.local`` as
``python -m e3mega.run.supervisor RUN_DIR``; its last line says how the run ended.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from e3mega.errors import E3Error
from e3mega.metrics import read_metrics
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import JobPlan, Plan, Role, read_plan
from e3mega.run.attempts import begin_attempt, end_attempt
from e3mega.run.causes import context_lines, exit_words, log_cause
from e3mega.run.display import Display, open_display
from e3mega.run.environment import job_environment
from e3mega.run.folder import clear_leftovers, disk_warning, remove_shared_memory, shown, unwritable
from e3mega.run.guard import end_by_signal, parent_is_gone
from e3mega.run.processes import RunningJob, adopt_orphans, kill_descendants, start_job, stop_jobs
from e3mega.run.progress import Progress
from e3mega.run.readiness import StartingServers
from e3mega.run.segments import note_segments
from e3mega.run.summary import accuracy_table
from e3mega.run.tail import MetricsTail
from e3mega.run.verdict import JobState, Verdict, judge

POLL_S = 0.2
SETTLE_S = 1.0
"""After a first failure, the wait for others that have the same cause."""
NOTE_PERIOD_S = 2.0
"""Between looks at the shared memory of the jobs."""
STOP_GRACE_S = 10.0
"""Between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended. Example: ``Ending("finished", 0, ())``."""

    reason: str
    exit_code: int
    context: tuple[str, ...]
    """Lines that a person reads above the reason."""


class Supervisor:
    """The jobs of one attempt of a run."""

    def __init__(self, plan: Plan, paths: RunPaths, attempt: int) -> None:
        self._plan = plan
        self._paths = paths
        self._attempt = attempt
        self._jobs: dict[str, RunningJob] = {}
        self._ended: dict[str, float] = {}
        self._note_due = 0.0
        self._tail = MetricsTail(paths.metrics("loop"))
        self._progress = Progress(plan)
        servers = [job.name for job in plan.jobs if job.role is Role.GENERATION]
        self._servers = StartingServers(
            {name: paths.address(replica) for replica, name in enumerate(servers)}
        )
        for event in self._tail.new_events():
            self._progress.observe(event)

    def start(self) -> None:
        """Start every job of the plan."""
        for job in self._plan.jobs:
            argv = tuple(self._filled(word) for word in job.argv)
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            self._jobs[job.name] = start_job(
                job.name,
                argv,
                env=job_environment(os.environ, job.env),
                log=self._paths.log(job.name),
                header=f"=== attempt {self._attempt}, {started}: {' '.join(argv)}",
            )

    def watch(self, display: Display, signals: list[int]) -> Ending:
        """Show the run until it is done, a job fails, or a signal asks to stop."""
        parent = os.getppid()
        while True:
            self.show(display)
            if signals:
                return self._stopped(signals[0], is_orphan=parent_is_gone(parent))
            verdict, _ = judge(self._states())
            if verdict is Verdict.DONE:
                return Ending("finished", 0, ())
            if verdict is Verdict.FAILED:
                return self._failed(signals)
            if time.monotonic() >= self._note_due:
                self._note_due = time.monotonic() + NOTE_PERIOD_S
                note_segments(self._paths.segments)
            time.sleep(POLL_S)

    def show(self, display: Display) -> None:
        """Bring the display up to date with what the loop wrote."""
        events = list(self._tail.new_events())
        for event in events:
            self._progress.observe(event)
        display.show(self._progress, events, self._servers.look())

    def stop(self, signals: list[int]) -> None:
        """End all jobs and their descendants; a further signal means at once."""
        given = len(signals)
        note_segments(self._paths.segments)
        stop_jobs(
            tuple(self._jobs.values()),
            grace_s=STOP_GRACE_S,
            is_urgent=lambda: len(signals) > given,
        )

    def _filled(self, word: str) -> str:
        places = {
            "{python}": sys.executable,
            "{run_dir}": str(self._paths.run_dir),
            "{attempt}": str(self._attempt),
        }
        for place, value in places.items():
            word = word.replace(place, value)
        return word

    def _states(self) -> list[JobState]:
        now = time.monotonic()
        states: list[JobState] = []
        for job in self._plan.jobs:
            status = self._jobs[job.name].process.poll()
            if status is not None:
                self._ended.setdefault(job.name, now)
            ended_s = now - self._ended.get(job.name, now)
            states.append(JobState(job.name, job.role, status, ended_s))
        return states

    def _stopped(self, signal_number: int, *, is_orphan: bool) -> Ending:
        name = signal.Signals(signal_number).name
        words = {"SIGINT": "stopped by Ctrl-C"}.get(name, f"stopped by {name}")
        reason = "stopped because the e3mega command was killed" if is_orphan else words
        return Ending(reason, end_by_signal(signal_number), ())

    def _failed(self, signals: list[int]) -> Ending:
        settled = time.monotonic() + SETTLE_S
        while time.monotonic() < settled and not signals:
            self._states()
            time.sleep(POLL_S)
        _, names = judge(self._states())
        first, *others = (self._words(name) for name in names)
        job = self._jobs[names[0]]
        context = [f"last lines of {shown(job.log)}:"]
        context += [f"  {line}" for line in context_lines(job.log, job.log_start)]
        context += [f"also: {words}" for words in others]
        context += disk_warning(self._paths.run_dir)
        return Ending(f"{first} (log: {shown(job.log)})", 1, tuple(context))

    def _words(self, name: str) -> str:
        job = self._jobs[name]
        status = job.process.poll()
        assert status is not None, f"job {name} is blamed but runs"
        cause = log_cause(job.log, job.log_start)
        early = " while others were still at work" if status == 0 else ""
        return f"job {name} {exit_words(status)}{early}{': ' + cause if cause else ''}"


def job_names(jobs: tuple[JobPlan, ...]) -> str:
    """The names of jobs for a person. Example: ``generation_0, learner, loop``."""
    return ", ".join(job.name for job in jobs)


def supervise(run_dir: Path, console: Console) -> int:
    """Run one attempt to its end; its exit status. No process of it outlives this call."""
    paths = RunPaths(run_dir)
    plan = read_plan(paths.plan)
    adopt_orphans()
    clear_leftovers(paths)
    attempt = begin_attempt(paths.exit_reason)
    with _collected_signals() as signals:
        supervisor = Supervisor(plan, paths, attempt)
        ending = Ending("the supervisor failed", 1, ())
        try:
            ending = _attempt(supervisor, console, plan, signals)
        finally:
            kill_descendants()
            remove_shared_memory(paths)
            end_attempt(paths.exit_reason, reason=ending.reason, exit_code=ending.exit_code)
    return _conclude(ending, plan, paths, console)


def _attempt(supervisor: Supervisor, console: Console, plan: Plan, signals: list[int]) -> Ending:
    """Start the jobs, watch them, stop them."""
    # Jobs are forked before anything that may start threads.
    supervisor.start()
    display = open_display(console, plan.name)
    try:
        ending = supervisor.watch(display, signals)
        supervisor.show(display)
    finally:
        display.close()
    if ending.exit_code != 0:
        console.print(f"stopping {job_names(plan.jobs)}", highlight=False)
    supervisor.stop(signals)
    return ending


def _conclude(ending: Ending, plan: Plan, paths: RunPaths, console: Console) -> int:
    """Print how the run ended; the reason of a failure is the last line."""
    if ending.exit_code == 0:
        _present(plan, paths, console)
        return 0
    for line in ending.context:
        _complain(line)
    _complain(f"the run can be resumed: e3mega resume {shown(paths.run_dir)}")
    _complain(f"e3mega: {plan.name} did not finish: {ending.reason}")
    return ending.exit_code


def _present(plan: Plan, paths: RunPaths, console: Console) -> None:
    """Write the report, and print the table before and after and where the results lie."""
    # Drawing loads matplotlib, which no run needs before its end.
    from e3mega.report.page import write_report

    page = write_report([paths.run_dir])
    table = accuracy_table(list(read_metrics(paths.metrics("loop"))))
    if table is not None:
        console.print(table)
    _say(console, f"{plan.name} finished")
    _say(console, f"page:   {shown(page)}")
    _say(console, f"export: {shown(paths.export)}")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _complain(line: str) -> None:
    print(line, file=sys.stderr)


@contextmanager
def _collected_signals() -> Iterator[list[int]]:
    """The signals that ask to stop, as they arrive."""
    received: list[int] = []

    def collect(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, collect)
    # The supervisor is in the background of its terminal, where writing may stop a process.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    yield received


def main(argv: list[str]) -> int:
    """Supervise the run of a run folder."""
    console = Console()
    run_dir = Path(argv[0])
    try:
        return supervise(run_dir, console)
    except E3Error as error:
        _complain(f"e3mega: {error}")
        return error.exit_code
    except OSError as error:
        _complain(f"e3mega: {unwritable(run_dir, error)}")
        return E3Error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
