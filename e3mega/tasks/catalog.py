"""Builds a task from its options."""

from e3mega.tasks.countdown_task import CountdownTask
from e3mega.tasks.interface import Task
from e3mega.tasks.options import TaskOptions


def build_task(options: TaskOptions, seed: int) -> Task:
    """The task that the options name; the same options and seed give the same task."""
    return CountdownTask(options, seed)
