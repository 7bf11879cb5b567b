"""The supervisor of a node other than 0: runs its jobs as node 0 orders, and reports them."""

import signal
import time

from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, Role
from e3mega.run.board import JobReport
from e3mega.run.ending import Ending
from e3mega.run.guard import end_by_signal, parent_is_gone
from e3mega.run.node_jobs import NodeJobs
from e3mega.run.servers import ServerCare
from e3mega.run.station import POLL_S, Station
from e3mega.run.views.tail import MetricsTail
from e3mega.run.watchdog import write_stacks

_LAST_S = 2.0
"""By how much the others leave after node 0, whose status is the run's."""


class Member:
    """Obeys the orders of one launch until it is told to leave."""

    def __init__(self, plan: Plan, paths: RunPaths, station: Station, jobs: NodeJobs) -> None:
        self._plan = plan
        self._station = station
        self._jobs = jobs
        self._attempt = -1
        self._paths = paths
        self._has_stacks = False
        self._events = MetricsWriter(paths.metrics(f"supervisor_{station.node}"))
        self._care = ServerCare(plan, paths, jobs, self._events)
        self._tail = MetricsTail(paths.metrics("loop"))
        for _ in self._tail.new_events():
            pass

    def watch(self, signals: list[int]) -> Ending:
        """Run the node's jobs until node 0 says that the run ends, or is silent."""
        board, cluster = self._station.board, self._plan.cluster
        while True:
            order = board.order()
            assert order is not None, "a member starts after the first order"
            if order.ending:
                return Ending(order.ending, order.exit_code)
            if hard := _hard(signals):
                return Ending(f"stopped by {signal.Signals(hard[0]).name}", end_by_signal(hard[0]))
            if parent_is_gone(self._station.parent):
                return Ending("stopped because its command was killed", 1)
            if order.wants_stacks and not self._has_stacks:
                self._has_stacks = True
                write_stacks(self._paths.stacks(self._station.node))
            self._obey(order.attempt)
            for event in self._tail.new_events():
                self._care.observe(event)
            states = self._jobs.reports()
            self._care.tend(states, self._attempt)
            reason, is_stated = self._reason(states)
            self._station.beat(self._attempt, states, reason=reason, is_stated=is_stated)
            board.report(0)
            if board.silent_s(0) > cluster.heartbeat_deadline_s:
                return Ending(f"node 0 is silent since {board.silent_s(0):.0f} s", 1)
            time.sleep(POLL_S)

    def wait_until_over(self, signals: list[int]) -> None:
        """Stay until node 0 has written all that it writes.

        Schedulers end the others when one task of a job has left, with whatever status.
        """
        order = self._station.board.order()
        if order is None or not order.ending:
            return
        given = len(signals)
        deadline = time.monotonic() + self._plan.cluster.node_deadline_s
        while len(signals) == given and not parent_is_gone(self._station.parent):
            order = self._station.board.order()
            if order is not None and order.is_over:
                # The earliest look that saw it counts.
                deadline = min(deadline, time.monotonic() + _LAST_S)
            if time.monotonic() > deadline:
                return
            time.sleep(POLL_S)

    def close(self) -> None:
        """Nothing is written after this."""
        self._events.close()

    def _obey(self, attempt: int) -> None:
        if attempt == self._attempt:
            return
        is_first = self._attempt < 0
        self._attempt = attempt
        if is_first:
            self._jobs.start(attempt)
        else:
            self._jobs.begin_again(attempt)

    def _reason(self, states: tuple[JobReport, ...]) -> tuple[str, bool]:
        """Why a job of this node failed, and whether it said so itself; empty while none did."""
        failed = [s for s in states if s.role is not Role.LOOP and s.status not in (None, 0)]
        if not failed:
            return "", False
        return self._jobs.words(failed[0].name), self._jobs.states_a_reason(failed[0].name)


def _hard(signals: list[int]) -> list[int]:
    """Those that end the node; one to leave at a checkpoint is node 0's business."""
    return [number for number in signals if number != signal.SIGUSR1]
