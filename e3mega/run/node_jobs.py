"""The jobs of one node: started, started again, looked at and stopped together."""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import JobPlan, Plan, Role
from e3mega.run.board import JobReport
from e3mega.run.causes import exit_words, has_stated_reason, log_cause
from e3mega.run.environment import job_environment
from e3mega.run.processes import (
    RunningJob,
    descendants_of,
    kill_all,
    kill_descendants,
    start_job,
    stop_jobs,
)

STOP_GRACE_S = 10.0
"""Between SIGTERM and SIGKILL."""
_NOTE_PERIOD_S = 2.0
"""Between looks at what the jobs have started."""


@dataclass(slots=True)
class _Job:
    """A job of this node and what became of it."""

    plan: JobPlan
    running: RunningJob
    ended: float | None = None
    """When its end was seen, monotonic; None while it runs."""
    restarts: int = 0
    given_up: str = ""
    """Why it was killed by its supervisor; empty if it was not."""
    tree: list[psutil.Process] = field(default_factory=list[psutil.Process])
    """Processes that it started, as last seen."""

    def note_tree(self) -> None:
        """Remember what the job has started; nothing is learned of one that ended."""
        if self.running.process.poll() is None:
            self.tree = descendants_of(self.running.process.pid)

    def end(self) -> None:
        """End the job, if it runs, and whatever is left of what it started."""
        self.note_tree()
        stop_jobs([self.running], grace_s=STOP_GRACE_S, is_urgent=lambda: bool(self.given_up))
        kill_all(self.tree)


class NodeJobs:
    """What runs on one node.

    ``places_at`` gives, for an attempt, what stands for the words of argv that only a node knows;
    ``passed`` names variables that jobs may see besides those that they always do.
    """

    def __init__(
        self,
        plan: Plan,
        paths: RunPaths,
        node: int,
        places_at: Callable[[int], Mapping[str, str]],
        passed: Sequence[str] = (),
    ) -> None:
        self._paths = paths
        self._node = node
        self._plans = [job for job in plan.jobs if job.node == node]
        self._places_at = places_at
        self._passed = tuple(passed)
        self._places: Mapping[str, str] = {}
        self._note_due = 0.0
        self._jobs: dict[str, _Job] = {}

    def start(self, attempt: int) -> None:
        """Start every job of the node that does not run."""
        self._places = self._places_at(attempt)
        for job in self._plans:
            known = self._jobs.get(job.name)
            if known is None or known.running.process.poll() is not None:
                self._jobs[job.name] = _Job(job, self._start(job, attempt))

    def begin_again(self, attempt: int) -> None:
        """Stop the learner and the loop, and start them under a new attempt; servers stay."""
        leaving = [job for job in self._jobs.values() if job.plan.role is not Role.GENERATION]
        for job in leaving:
            job.end()
        self._places = self._places_at(attempt)
        for job in leaving:
            fresh = _Job(job.plan, self._start(job.plan, attempt), restarts=job.restarts + 1)
            self._jobs[job.plan.name] = fresh

    def clear(self, name: str) -> None:
        """End what is left of a job that ended.

        The processes that a killed vLLM server forked would keep its memory and its port, so that
        whoever asks it would wait for an answer instead of being refused.
        """
        self._jobs[name].end()

    def restart_server(self, name: str, attempt: int) -> None:
        """Start a server that ended again."""
        job = self._jobs[name]
        job.end()
        running = self._start(job.plan, attempt)
        self._jobs[name] = _Job(job.plan, running, restarts=job.restarts + 1)

    def give_up(self, name: str, reason: str) -> None:
        """Kill a job that runs but does not do its work."""
        job = self._jobs[name]
        if job.running.process.poll() is None:
            job.given_up = reason
            job.end()

    def reports(self) -> tuple[JobReport, ...]:
        """Every job of the node as it stands."""
        now = time.monotonic()
        if now >= self._note_due:
            self._note_due = now + _NOTE_PERIOD_S
            for job in self._jobs.values():
                job.note_tree()
        found: list[JobReport] = []
        for name, job in self._jobs.items():
            status = job.running.process.poll()
            if status is not None and job.ended is None:
                job.ended = now
            ended_s = 0.0 if job.ended is None else now - job.ended
            pid = job.running.process.pid
            found.append(JobReport(name, job.plan.role, pid, status, ended_s, job.restarts))
        return tuple(found)

    def running(self, name: str) -> RunningJob | None:
        """A job of this node; None if it is of another."""
        return self._jobs[name].running if name in self._jobs else None

    def words(self, name: str) -> str:
        """How a job of this node ended, and why as far as its log tells."""
        job = self._jobs[name]
        status = job.running.process.poll()
        assert status is not None, f"job {name} is blamed but runs"
        where = f"job {name}" if self._node == 0 else f"job {name} on node {self._node}"
        if job.given_up:
            return f"{where} was given up: {job.given_up}"
        # Whatever stands in its log, a process that is killed so from outside cannot say why.
        is_told = status != -signal.SIGKILL
        cause = log_cause(job.running.log, job.running.log_start) if is_told else ""
        early = " while others were still at work" if status == 0 else ""
        return f"{where} {exit_words(status)}{early}{': ' + cause if cause else ''}"

    def states_a_reason(self, name: str) -> bool:
        """Whether the job ended by itself for a reason that would stop it again."""
        job = self._jobs[name]
        return has_stated_reason(job.running.log, job.running.log_start)

    def stop(self, is_urgent: Callable[[], bool]) -> None:
        """End all jobs and everything that this process has started."""
        running = [job.running for job in self._jobs.values()]
        stop_jobs(running, grace_s=STOP_GRACE_S, is_urgent=is_urgent)
        kill_descendants(running)

    def _start(self, job: JobPlan, attempt: int) -> RunningJob:
        argv = tuple(self._filled(word, attempt) for word in job.argv)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        return start_job(
            job.name,
            argv,
            env=job_environment(os.environ, job.env, devices=job.devices, passed=self._passed),
            log=self._paths.log(job.name),
            header=f"=== attempt {attempt}, {started}: {' '.join(argv)}",
            # Slurm sends it to every process of a task; only the loop knows how to leave.
            deaf_to=None if job.role is Role.LOOP else signal.SIGUSR1,
        )

    def _filled(self, word: str, attempt: int) -> str:
        places = {
            "{python}": sys.executable,
            "{run_dir}": str(self._paths.run_dir),
            "{attempt}": str(attempt),
            **self._places,
        }
        for place, value in places.items():
            word = word.replace(place, value)
        return word
