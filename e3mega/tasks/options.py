"""The union of all task options; a task's own options stand in its file."""

from e3mega.tasks.countdown import CountdownOptions

TaskOptions = CountdownOptions
"""One of the tasks; becomes a union discriminated by ``kind`` with the second task."""
