"""Shows a run's progress: a live panel on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from typing import Protocol

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from e3mega.run.views.progress import (
    Event,
    Progress,
    StageProgress,
    duration,
    numbers_that_matter,
)

PLAIN_PERIOD_S = 10.0
_BAR_WIDTH = 28


class Display(Protocol):
    """What the supervisor shows a run on."""

    def show(self, progress: Progress, events: list[Event], servers: Mapping[str, float]) -> None:
        """Show where the run stands; ``servers`` are those that start, with seconds so far."""
        ...

    def close(self) -> None:
        """Leave the screen to what is printed next."""
        ...


def open_display(console: Console, title: str) -> Display:
    """The display that fits the console."""
    return LiveDisplay(console, title) if console.is_terminal else PlainDisplay(console)


class LiveDisplay:
    """A panel that is drawn over itself."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        # Without a refresh thread: jobs are forked from this process.
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._live.start()

    def show(self, progress: Progress, events: list[Event], servers: Mapping[str, float]) -> None:
        """Draw the panel anew."""
        elapsed_s = time.monotonic() - self._began
        panel = render(progress, servers, title=self._title, elapsed_s=elapsed_s)
        self._live.update(panel, refresh=True)

    def close(self) -> None:
        """Leave the last panel on the screen."""
        self._live.stop()


class PlainDisplay:
    """A line for each thing that happens, and one every few seconds while a stage trains."""

    def __init__(self, console: Console, period_s: float = PLAIN_PERIOD_S) -> None:
        self._console = console
        self._began = time.monotonic()
        self._period_s = period_s
        self._due = self._began + period_s
        self._last = ""
        self._starting: set[str] = set()

    def show(self, progress: Progress, events: list[Event], servers: Mapping[str, float]) -> None:
        """Print what is new."""
        for name in sorted(set(servers) - self._starting):
            self._print(f"{name} starts")
        for name in sorted(self._starting - set(servers)):
            self._print(f"{name} is ready")
        self._starting = set(servers)
        for event in events:
            line = event_line(event)
            if line:
                self._print(line)
        now = time.monotonic()
        if now >= self._due and progress.current is not None:
            self._due = now + self._period_s
            line = stage_line(progress.current)
            if line != self._last:
                self._last = line
                self._print(line)

    def close(self) -> None:
        """Nothing is left to do."""

    def _print(self, line: str) -> None:
        elapsed = duration(time.monotonic() - self._began)
        self._console.print(f"[{elapsed}] {line}", markup=False, highlight=False, soft_wrap=True)


def render(
    progress: Progress, servers: Mapping[str, float], *, title: str, elapsed_s: float
) -> Group:
    """The panel: a line per stage, the numbers of the current one, servers that start."""
    head = Table.grid(expand=True)
    head.add_column()
    head.add_column(justify="right")
    head.add_row(Text(f"{title}: {progress.doing}", style="bold"), duration(elapsed_s))
    stages = Table.grid(padding=(0, 2))
    for stage in progress.stages.values():
        bar = ProgressBar(total=max(1, stage.max_steps), completed=stage.step, width=_BAR_WIDTH)
        stages.add_row(stage.name, bar, f"{stage.step}/{stage.max_steps}", _stage_state(stage))
    lines: list[Table | Text | Columns] = [head, stages]
    if progress.current is not None:
        pairs = numbers_that_matter(progress.current)
        lines.append(Columns([Text(f"{name} {text}") for name, text in pairs], padding=(0, 2)))
    for name, seconds in servers.items():
        lines.append(Text(f"{name} starts, {duration(seconds)} so far", style="dim"))
    return Group(*lines)


def stage_line(stage: StageProgress) -> str:
    """One line for the stage: steps, numbers, time left."""
    left_s = stage.seconds_left()
    eta = f", ETA {duration(left_s)}" if left_s is not None and not stage.is_finished else ""
    numbers = "".join(f", {name} {text}" for name, text in numbers_that_matter(stage))
    return f"{stage.name} step {stage.step}/{stage.max_steps}{numbers}{eta}"


def event_line(event: Event) -> str:
    """One line for an event that a person wants to know of; empty for any other."""
    match event["event"]:
        case "run_started":
            return f"run {event['name']} started, attempt {event['attempt']}"
        case "attempt_resumed":
            return f"continues from version {event['version']}"
        case "checkpoint_passed_over":
            return f"checkpoint {event['checkpoint']} passed over: {event['reason']}"
        case "stage_started":
            return f"stage {event['stage']} started"
        case "stage_finished":
            return f"stage {event['stage']} finished: {event['reason']}"
        case "budget_decision":
            return f"stage {event['stage']}: budget {event['chosen']} tokens: {event['reason']}"
        case "evaluation":
            return _evaluation_line(event)
        case "server_lost":
            return f"server {event['server']} is lost: {event['reason']}"
        case "server_joined":
            return f"server {event['server']} serves again"
        case "server_restarted":
            return f"{event['job']} is started again: {event['reason']}"
        case "begins_again":
            return f"the learner and the loop begin again: {event['reason']}"
        case "leave_asked" | "run_left":
            return "the loop is asked to leave" if "reason" in event else "the loop has left"
        case "run_failed":
            return f"the loop stops: {event['reason']}"
        case _:
            return ""


def _evaluation_line(event: Event) -> str:
    budgets, accuracy = event["budgets"], event["accuracy"]
    assert isinstance(budgets, list) and isinstance(accuracy, list)
    pairs = ", ".join(
        f"{value:.3f} at {budget}" for budget, value in zip(budgets, accuracy, strict=True)
    )
    return f"accuracy of {event['label']} on {event['slice']}: {pairs} tokens"


def _stage_state(stage: StageProgress) -> str:
    if stage.is_finished:
        return "done"
    if stage.started is None:
        return "waits"
    left_s = stage.seconds_left()
    budget = f"{stage.budget_tokens} tokens" if stage.budget_tokens else ""
    eta = f"ETA {duration(left_s)}" if left_s is not None else ""
    return "  ".join(part for part in (eta, budget) if part)
