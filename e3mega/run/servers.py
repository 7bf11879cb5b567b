"""Care for the servers of one node: those that end or do no work are started again."""

from collections.abc import Sequence

from e3mega.metrics import MetricsWriter
from e3mega.plan.planfile import Plan, Role
from e3mega.run.board import JobReport
from e3mega.run.node_jobs import NodeJobs
from e3mega.run.progress import Event


class ServerCare:
    """Starts the node's servers again, each at most ``cluster.max_restarts`` times.

    A server that the loop gave up although it runs is killed first. The loop brings a server
    that comes again to the current weights before it asks it anything.
    """

    def __init__(self, plan: Plan, jobs: NodeJobs, events: MetricsWriter) -> None:
        self._plan = plan
        self._jobs = jobs
        self._events = events
        self._names = {
            replica: job.name
            for replica, job in enumerate(j for j in plan.jobs if j.role is Role.GENERATION)
        }

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

    def restart_ended(self, states: Sequence[JobReport], attempt: int) -> bool:
        """Start the servers of this node that ended, as often as is allowed; whether any was."""
        has_started = False
        loops = [state for state in states if state.role is Role.LOOP]
        if loops and all(state.status is not None for state in loops):
            return False
        for state in states:
            if state.role is not Role.GENERATION or state.status is None:
                continue
            has_more = state.restarts < self._plan.cluster.max_restarts
            if has_more and self._jobs.running(state.name) is not None:
                reason = self._jobs.words(state.name)
                self._jobs.restart_server(state.name, attempt)
                self._events.write("server_restarted", job=state.name, reason=reason)
                has_started = True
        return has_started
