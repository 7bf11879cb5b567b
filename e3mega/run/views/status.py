"""Where a run stands, read from its folder alone, from any machine that sees it."""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from e3mega.errors import E3Error
from e3mega.metrics import Json, read_metrics
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import LEFT_STATUS, Plan, read_plan
from e3mega.run.attempts import Attempt, read_attempts
from e3mega.run.board import NodeReport, read_report
from e3mega.run.folder import shown
from e3mega.run.views.display import event_line, render
from e3mega.run.views.ledger_view import ledger_table
from e3mega.run.views.progress import Event, Progress, duration

_NUM_EVENTS = 6
PATIENCE_S = 3.0
"""A few times the time between two reports of a node."""
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run as its folder shows it. Example: ``read_status(Path("runs/quickstart"))``."""

    plan: Plan
    paths: RunPaths
    attempts: tuple[Attempt, ...]
    nodes: tuple[NodeReport, ...]
    """The newest report of each node; old ones of an attempt that ended."""
    silences_s: tuple[float, ...]
    """Of each of these nodes, seconds since it reported; 0 for one that was seen to report."""
    events: tuple[Event, ...]
    """Of the loop and the supervisors, by time."""

    @property
    def is_open(self) -> bool:
        """Whether the newest attempt has no end yet."""
        return bool(self.attempts) and self.attempts[-1].ended is None

    @property
    def silent_s(self) -> float:
        """Seconds since node 0 reported."""
        return self.silences_s[0] if self.silences_s else 0.0


def read_status(run_dir: Path, *, patience_s: float = 0.0) -> RunStatus:
    """Read a run's folder; raises E3Error when it holds no run.

    Clocks of machines differ: a node that seems silent by this one's is given ``patience_s`` to
    report again.
    """
    paths = RunPaths(run_dir.resolve())
    if not paths.plan.exists():
        raise E3Error(f"{run_dir} holds no run ({paths.plan.name} is missing)")
    plan = read_plan(paths.plan)
    attempts = read_attempts(paths.exit_reason)
    nodes = _reports(plan, paths)
    limit_s = plan.cluster.heartbeat_deadline_s
    silences_s = tuple(time.time() - node.time for node in nodes)
    if attempts and attempts[-1].ended is None and max(silences_s, default=0.0) > limit_s:
        beating = _beating(plan, paths, nodes, patience_s)
        silences_s = tuple(
            0.0 if node.node in beating else silence_s
            for node, silence_s in zip(nodes, silences_s, strict=True)
        )
    files = sorted(paths.metrics("loop").parent.glob("*.jsonl"))
    events = sorted(
        (event for file in files for event in read_metrics(file)),
        key=lambda event: _float(event["time"]),
    )
    return RunStatus(
        plan=plan,
        paths=paths,
        attempts=attempts,
        nodes=nodes,
        silences_s=silences_s,
        events=tuple(events),
    )


def _reports(plan: Plan, paths: RunPaths) -> tuple[NodeReport, ...]:
    reports = (read_report(paths.node_report(node)) for node in range(plan.num_nodes))
    return tuple(report for report in reports if report is not None)


def _beating(
    plan: Plan, paths: RunPaths, seen: tuple[NodeReport, ...], patience_s: float
) -> set[int]:
    """The nodes whose report becomes another one meanwhile; returns early when all do."""
    beats = {report.node: (report.launch, report.beat) for report in seen}
    found: set[int] = set()
    deadline = time.monotonic() + patience_s
    while len(found) < len(beats) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        found |= {
            report.node
            for report in _reports(plan, paths)
            if (report.launch, report.beat) != beats.get(report.node)
        }
    return found


def state_words(status: RunStatus) -> str:
    """What becomes of the run, in a few words."""
    if not status.attempts:
        return "waits for its first start"
    newest = status.attempts[-1]
    if not status.is_open:
        if newest.exit == 0:
            return "finished"
        how = "left" if newest.exit == LEFT_STATUS else "stopped"
        return f"{how}: {newest.reason}"
    silence = status.plan.cluster.heartbeat_deadline_s
    if status.silent_s > silence:
        return f"silent for {duration(status.silent_s)}: perhaps killed; e3mega resume continues it"
    return "runs"


def status_view(status: RunStatus) -> Group:
    """The whole view for a terminal."""
    progress = Progress(status.plan)
    for event in status.events:
        progress.observe(event)
    started = status.attempts[-1].started if status.attempts else time.time()
    ended = status.attempts[-1].ended if status.attempts else None
    elapsed_s = (ended or time.time()) - started
    head = f"{status.plan.name}: {state_words(status)}"
    where = f"attempt {len(status.attempts) - 1} in {shown(status.paths.run_dir)}"
    return Group(
        Text(head, style="bold"),
        Text(where),
        render(progress, {}, title="stage", elapsed_s=elapsed_s),
        _jobs_table(status),
        Text(throughput_words(status.events)),
        *[table for table in [ledger_table(status.events)] if table is not None],
        *[Text(line) for line in last_events(status.events)],
        *[Text(f"warning: {line}", style="yellow") for line in warnings_of_run(status)],
    )


def throughput_words(events: tuple[Event, ...]) -> str:
    """Tokens per second of the newest round; empty before one ended."""
    rounds = [event for event in events if event["event"] == "round"]
    if not rounds:
        return ""
    newest = rounds[-1]
    total_s = _float(newest["total_s"])
    steps = [
        event
        for event in events
        if event["event"] == "step"
        and event["stage"] == newest["stage"]
        and event["round"] == newest["round"]
    ]
    generated = sum(_float(event.get("tokens_generated", 0.0)) for event in steps)
    trained = sum(_float(event.get("tokens_trained", 0.0)) for event in steps)
    if total_s <= 0:
        return ""
    return (
        f"newest round: {total_s:.1f} s, {generated / total_s:.0f} generated and "
        f"{trained / total_s:.0f} trained tokens/s"
    )


def last_events(events: tuple[Event, ...]) -> list[str]:
    """The newest things that a person wants to know of, each with its time."""
    told = [(event, event_line(event)) for event in events]
    return [
        f"{time.strftime('%H:%M:%S', time.localtime(_float(event['time'])))} {line}"
        for event, line in told
        if line
    ][-_NUM_EVENTS:]


def warnings_of_run(status: RunStatus) -> list[str]:
    """What someone may act on: of the plan, and of nodes that are silent."""
    found = list(status.plan.warnings)
    if status.is_open:
        limit = status.plan.cluster.heartbeat_deadline_s
        for node, silent_s in zip(status.nodes, status.silences_s, strict=True):
            if silent_s > limit:
                found.append(f"node {node.node} ({node.host}) is silent for {duration(silent_s)}")
    if status.paths.stop_request.exists() and status.is_open:
        found.append("asked to leave at its next checkpoint")
    return found


def _jobs_table(status: RunStatus) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("job", "node", "host", "state", "started again"):
        table.add_column(title)
    for node in status.nodes:
        for job in node.jobs:
            state = "runs" if job.status is None else f"ended with {job.status}"
            if not status.is_open:
                state = "ended"
            table.add_row(job.name, str(node.node), node.host, state, str(job.restarts or ""))
    return table


def _float(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
