"""Care for the servers of one node: those that end or do no work are started again."""

from collections.abc import Sequence

from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, Role
from e3mega.run.board import JobReport
from e3mega.run.node_jobs import NodeJobs
from e3mega.run.views.progress import Event


class ServerCare:
    """Starts the node's servers again, each at most ``cluster.max_restarts`` times.

    What is left of one that ended is killed and its address withdrawn, from which the loop learns
    of its end even while it asks it nothing. A server that the loop gave up although it runs is
    killed first. The loop brings a server that comes again to the current weights before it asks
    it anything.
    """

    def __init__(self, plan: Plan, paths: RunPaths, jobs: NodeJobs, events: MetricsWriter) -> None:
        self._plan = plan
        self._paths = paths
        self._jobs = jobs
        self._events = events
        self._names = {
            replica: job.name
            for replica, job in enumerate(j for j in plan.jobs if j.role is Role.GENERATION)
        }
        self._ended: set[int] = set()
        """Processes of servers whose end was noted."""

    def observe(self, event: Event) -> None:
        """Take an event of the loop into account."""
        replica = event.get("server")
        if event["event"] != "server_lost" or not isinstance(replica, int):
            return
        name = self._names[replica]
        running = self._jobs.running(name)
        # The loop may speak of a process that has ended and was started again since.
        if running is not None and event["pid"] in (None, running.process.pid):
            self._jobs.give_up(name, str(event["reason"]))

    def tend(self, states: Sequence[JobReport], attempt: int) -> bool:
        """Note which servers of this node ended, and start them as often as is allowed.

        Whether any was started.
        """
        has_started = False
        loops = [state for state in states if state.role is Role.LOOP]
        if loops and all(state.status is not None for state in loops):
            return False
        for state in states:
            is_ended = state.role is Role.GENERATION and state.status is not None
            if not is_ended or self._jobs.running(state.name) is None:
                continue
            self._note_end(state)
            if state.restarts < self._plan.cluster.max_restarts:
                reason = self._jobs.words(state.name)
                self._jobs.restart_server(state.name, attempt)
                self._events.write("server_restarted", job=state.name, reason=reason)
                has_started = True
        return has_started

    def _note_end(self, state: JobReport) -> None:
        if state.pid in self._ended:
            return
        self._ended.add(state.pid)
        self._jobs.clear(state.name)
        replica = next(index for index, name in self._names.items() if name == state.name)
        self._paths.address(replica).unlink(missing_ok=True)
        self._events.write("server_ended", job=state.name, reason=self._jobs.words(state.name))
