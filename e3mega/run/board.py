"""What the supervisors of a run's nodes tell each other, in files of the run folder.

Node 0 produces the order; every node produces its report, again every few seconds, so that a
report that stays the same means a node that is gone. Times are compared on one machine's
monotonic clock only, since the clocks of nodes differ and jump.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Role
from e3mega.rollout.whole_file import write_whole
from e3mega.run.verdict import JobState


@dataclass(frozen=True, slots=True)
class JobReport:
    """One job as its node sees it. Example: ``JobReport("loop", Role.LOOP, 47, None, 0.0, 0)``."""

    name: str
    role: Role
    pid: int
    status: int | None
    """Exit status; None while it runs."""
    ended_s: float
    """Seconds since its end was seen."""
    restarts: int
    """Times that it was started again."""

    def state(self) -> JobState:
        """What the verdict needs of it."""
        return JobState(self.name, self.role, self.status, self.ended_s)


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node as its supervisor sees it. Example: ``NodeReport("1", 0, "n1", 17, 0, 3, ...)``."""

    launch: str
    """Names the start of processes that this one belongs to; a stale report has another."""
    node: int
    host: str
    pid: int
    """Of the supervisor."""
    attempt: int
    beat: int
    """Counts the reports."""
    time: float
    """Seconds since the epoch by the node's clock, for a person."""
    jobs: tuple[JobReport, ...]
    reason: str = ""
    """Why a job of the node failed, in words; empty while none did."""
    is_stated: bool = False
    """Whether that job said so itself; started again, it would say it again."""


@dataclass(frozen=True, slots=True)
class Order:
    """What node 0 wants of all nodes. Example: ``Order("4711.0", 2, "", 0)``."""

    launch: str
    attempt: int
    ending: str
    """Why everything ends; empty while the run goes on."""
    exit_code: int
    """With which status the nodes leave; counts when ``ending`` is set."""
    is_over: bool = False
    """Whether node 0 has written all that it writes, so that the others may leave."""
    wants_stacks: bool = False
    """Whether the nodes write the stacks of their processes to their logs."""


_REPORT = TypeAdapter(NodeReport)
_ORDER = TypeAdapter(Order)


class Board:
    """One node's view of the others; ``launch`` keeps files of former starts out."""

    def __init__(self, paths: RunPaths, launch: str) -> None:
        self._paths = paths
        self._launch = launch
        self._beats: dict[int, tuple[int, float]] = {}
        """By node: the newest beat and when it was first seen, monotonic."""

    def publish(self, report: NodeReport) -> None:
        """Tell the others about this node."""
        write_whole(self._paths.node_report(report.node), _REPORT.dump_json(report))

    def report(self, node: int) -> NodeReport | None:
        """The newest report of a node of this launch; None before its first."""
        report = read_report(self._paths.node_report(node))
        if report is None or report.launch != self._launch:
            return None
        beat, _ = self._beats.get(node, (-1, 0.0))
        if report.beat != beat:
            self._beats[node] = (report.beat, time.monotonic())
        return report

    def silent_s(self, node: int) -> float:
        """Seconds since this process saw a new report of the node; 0 before the first."""
        if node not in self._beats:
            return 0.0
        return time.monotonic() - self._beats[node][1]

    def give_order(
        self,
        *,
        attempt: int,
        ending: str = "",
        exit_code: int = 0,
        is_over: bool = False,
        wants_stacks: bool = False,
    ) -> None:
        """Have every node of the launch at this attempt, or leave."""
        order = Order(self._launch, attempt, ending, exit_code, is_over, wants_stacks)
        write_whole(self._paths.order, _ORDER.dump_json(order))

    def order(self) -> Order | None:
        """The order to this launch; None before it was given."""
        order = read_order(self._paths.order)
        return order if order is not None and order.launch == self._launch else None


def read_order(path: Path) -> Order | None:
    """The order in a file, to whichever launch; None when there is none."""
    return _ORDER.validate_json(path.read_bytes()) if path.exists() else None


def read_report(path: Path) -> NodeReport | None:
    """The report in a file; None when there is none, or one of another version."""
    if not path.exists():
        return None
    try:
        return _REPORT.validate_json(path.read_bytes())
    except ValidationError:
        return None
