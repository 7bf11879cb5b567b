"""The supervisor of node 0: decides for the whole run whether it goes on, begins again or ends.

Consumes: the jobs' states on every node, the loop's events, signals, a request to stop.
Produces: orders to the other nodes, attempts.jsonl, what a person sees.
"""

import signal
import time

from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import LEFT_STATUS, JobPlan, Plan, Role
from e3mega.run.attempts import begin_attempt, end_attempt
from e3mega.run.board import Board, JobReport
from e3mega.run.causes import context_lines
from e3mega.run.ending import Ending
from e3mega.run.folder import disk_warning, shown
from e3mega.run.guard import end_by_signal, parent_is_gone
from e3mega.run.node_jobs import NodeJobs
from e3mega.run.readiness import StartingServers
from e3mega.run.servers import ServerCare
from e3mega.run.station import POLL_S, Station
from e3mega.run.verdict import Verdict, judge
from e3mega.run.views.display import Display
from e3mega.run.views.progress import Progress
from e3mega.run.views.tail import MetricsTail
from e3mega.run.watchdog import Watchdog, write_stacks

_TIME_ENDS = "left at a checkpoint: its time on the machine ends"
_STACKS_DEADLINE_S = 60.0
"""Longest wait for the other nodes' stacks."""
SETTLE_S = 1.0
"""After a first failure, the wait for others that have the same cause."""


class Head:
    """Watches one run from its first attempt to its end."""

    def __init__(
        self, plan: Plan, paths: RunPaths, station: Station, jobs: NodeJobs, attempt: int
    ) -> None:
        self._plan = plan
        self._paths = paths
        self._station = station
        self._jobs = jobs
        self._board: Board = station.board
        self.attempt = attempt
        self._num_again = 0
        self._began = time.monotonic()
        self._leave: tuple[str, float] | None = None
        """Why the loop was asked to leave, and when it must have left."""
        self._watchdog = Watchdog(paths, plan.cluster.progress_deadline_s)
        self._events = MetricsWriter(paths.metrics("supervisor"))
        self._care = ServerCare(plan, paths, jobs, self._events)
        self._tail = MetricsTail(paths.metrics("loop"))
        self._progress = Progress(plan)
        self._servers = StartingServers(
            {f"generation_{r}": paths.address(r) for r in range(plan.num_servers)}
        )
        for event in self._tail.new_events():
            self._progress.observe(event)

    def watch(self, display: Display, signals: list[int]) -> Ending:
        """Show the run until it is done, fails, or has to leave."""
        while True:
            self.show(display)
            self._station.beat(self.attempt, self._jobs.reports())
            asked = self._asked_to_end(signals)
            if asked is not None:
                return asked
            if self._care.tend(self._states(), self.attempt):
                continue
            states = self._states()
            verdict, names = judge([report.state() for report in states])
            if _was_only_starting(states):
                return Ending(self._leave[0] if self._leave else _TIME_ENDS, LEFT_STATUS)
            if verdict is Verdict.DONE:
                return Ending("finished", 0)
            if verdict is Verdict.LEFT:
                return Ending(self._leave[0] if self._leave else "the loop left", LEFT_STATUS)
            if verdict is Verdict.FAILED and not self._begin_again(names, signals):
                self._settle(signals)
                # A signal that a scheduler sends to every process may end a job before it is
                # heard here.
                return self._asked_to_end(signals) or self._failed(names)
            trouble = self._trouble()
            if trouble is not None:
                return trouble
            time.sleep(POLL_S)

    def show(self, display: Display) -> None:
        """Bring the display up to date with what the loop wrote."""
        events = list(self._tail.new_events())
        for event in events:
            self._progress.observe(event)
            self._care.observe(event)
        display.show(self._progress, events, self._servers.look())

    def close(self) -> None:
        """Nothing is written after this."""
        self._events.close()

    def _states(self) -> list[JobReport]:
        """Every job of the run, in the plan's order, as its node last reported it."""
        found = {report.name: report for report in self._jobs.reports()}
        for node in range(1, self._plan.num_nodes):
            report = self._board.report(node)
            if report is not None and report.attempt == self.attempt:
                found |= {job.name: job for job in report.jobs}
        return [found.get(job.name, _not_started(job)) for job in self._plan.jobs]

    def _asked_to_end(self, signals: list[int]) -> Ending | None:
        """The ending that a signal or a person's request asks for, if it is time for it."""
        hard = [number for number in signals if number != signal.SIGUSR1]
        if hard:
            name = signal.Signals(hard[0]).name
            words = {"SIGINT": "stopped by Ctrl-C"}.get(name, f"stopped by {name}")
            if parent_is_gone(self._station.parent):
                words = "stopped because the e3mega command was killed"
            return Ending(words, end_by_signal(hard[0]))
        if signals and self._leave is None:
            self._ask_to_leave(_TIME_ENDS)
        if self._leave is None and self._paths.stop_request.exists():
            self._ask_to_leave("left at a checkpoint: e3mega stop asked for it")
        if self._leave is not None and time.monotonic() > self._leave[1]:
            late_s = self._plan.cluster.leave_deadline_s
            return Ending(f"{self._leave[0]}, but the loop did not within {late_s:g} s", 1)
        return None

    def _ask_to_leave(self, reason: str) -> None:
        """Have the loop take a checkpoint and leave; it is on this node."""
        self._leave = (reason, time.monotonic() + self._plan.cluster.leave_deadline_s)
        self._events.write("leave_asked", reason=reason)
        for job in self._plan.jobs:
            running = self._jobs.running(job.name)
            if job.role is Role.LOOP and running is not None and running.process.poll() is None:
                running.process.send_signal(signal.SIGUSR1)

    def _begin_again(self, names: tuple[str, ...], signals: list[int]) -> bool:
        """Whether the learner and the loop begin again from the newest checkpoint."""
        roles = {job.name: job.role for job in self._plan.jobs}
        if self._num_again >= self._plan.cluster.max_restarts or self._leave is not None:
            return False
        if any(roles[name] is Role.GENERATION for name in names):
            return False
        self._settle(signals)
        _, names = judge([report.state() for report in self._states()])
        if signals or not names or not self._is_worth_repeating(names[0]):
            return False
        self._num_again += 1
        reason = self._words(names[0])
        end_attempt(self._paths.exit_reason, reason=reason, exit_code=1)
        self.attempt = begin_attempt(self._paths.exit_reason)
        self._events.write("begins_again", attempt=self.attempt, reason=reason)
        self._board.give_order(attempt=self.attempt)
        self._jobs.begin_again(self.attempt)
        return True

    def _is_worth_repeating(self, name: str) -> bool:
        """A job that says why it left would say it again; one that was killed would not."""
        if self._jobs.running(name) is not None:
            return not self._jobs.states_a_reason(name)
        report = self._board.report(self._node_of(name))
        return report is None or not report.is_stated

    def _trouble(self) -> Ending | None:
        """An ending because a node is gone or nothing advances."""
        cluster = self._plan.cluster
        for node in range(1, self._plan.num_nodes):
            report = self._board.report(node)
            silent_s = self._board.silent_s(node)
            if report is None and time.monotonic() - self._began > cluster.node_deadline_s:
                waited = f"{cluster.node_deadline_s:g} s"
                return Ending(
                    f"node {node} of {self._plan.num_nodes} did not come up within {waited}; see "
                    "the scheduler's log of its task",
                    1,
                )
            if report is not None and silent_s > cluster.heartbeat_deadline_s:
                return Ending(f"node {node} ({report.host}) is silent since {silent_s:.0f} s", 1)
        stalled_s = self._watchdog.stalled_s()
        if stalled_s is None:
            return None
        self._board.give_order(attempt=self.attempt, wants_stacks=True)
        logs = [self._paths.stacks(node) for node in range(self._plan.num_nodes)]
        write_stacks(logs[0])
        # The others find the processes as they are only while these run here.
        deadline = time.monotonic() + _STACKS_DEADLINE_S
        while not all(log.exists() for log in logs) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        where = ", ".join(shown(log) for log in logs)
        return Ending(
            f"no progress for {stalled_s:.0f} s; the stacks of all processes are in {where}", 1
        )

    def _settle(self, signals: list[int]) -> None:
        """Give others that have the same cause the time to end."""
        settled = time.monotonic() + SETTLE_S
        while time.monotonic() < settled and not signals:
            self._states()
            time.sleep(POLL_S)

    def _failed(self, blamed: tuple[str, ...]) -> Ending:
        names = judge([report.state() for report in self._states()])[1] or blamed
        first, *others = (self._words(name) for name in names)
        log = self._paths.log(names[0])
        job = self._jobs.running(names[0])
        context = [f"last lines of {shown(log)}:"]
        context += [f"  {line}" for line in context_lines(log, job.log_start if job else 0)]
        context += [f"also: {words}" for words in others]
        context += disk_warning(self._paths.run_dir)
        return Ending(f"{first} (log: {shown(log)})", 1, tuple(context))

    def _node_of(self, name: str) -> int:
        return next(job.node for job in self._plan.jobs if job.name == name)

    def _words(self, name: str) -> str:
        """How a job ended, by its own node's word."""
        if self._jobs.running(name) is not None:
            return self._jobs.words(name)
        node = self._node_of(name)
        report = self._board.report(node)
        return report.reason if report and report.reason else f"job {name} on node {node} ended"


def _was_only_starting(states: list[JobReport]) -> bool:
    """Whether the request to leave, from here or the scheduler, ended a loop that did not know it
    yet."""
    return any(s.role is Role.LOOP and s.status == -signal.SIGUSR1 for s in states)


def _not_started(job: JobPlan) -> JobReport:
    """A job whose node has not reported it yet."""
    return JobReport(job.name, job.role, 0, None, 0.0, 0)
