"""What the report knows of a run: its events, repeated ones resolved, and its plan if readable."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from e3mega.errors import RecordError
from e3mega.metrics import Json, read_metrics
from e3mega.plan.paths import GradePaths, RunPaths
from e3mega.plan.planfile import Plan, read_plan

Event = dict[str, Json]

# A killed and resumed run repeats events; of those with equal values here the last one
# counts.
IDENTITY: dict[str, tuple[str, ...]] = {
    "run_started": (),
    "stage_started": ("stage",),
    "stage_finished": ("stage",),
    "step": ("step",),
    "round": ("stage", "round"),
    "recognition": ("stage", "step"),
    "evaluation": ("label", "slice"),
    "evaluation_within": ("version", "slice"),
    "separate": ("label", "slice"),
    "forcing": ("label", "slice"),
    "asymmetry": ("label", "version"),
    "attempt_logprobs": ("label",),
    "signal": ("stage", "step"),
    "grid_changed": ("stage",),
    "pass_k": ("label", "slice"),
    "budget_decision": ("stage",),
    "checkpoint": ("version",),
    "ledger": ("version",),
    "canary": ("version", "server"),
    "sync": ("version",),
    "run_finished": (),
}
# A resumed run announces its stage again, at the version where it goes on.
FIRST_COUNTS = frozenset({"stage_started"})


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage as it ran. Example: ``Stage("easy", "rl", 64, 600)``."""

    name: str
    mode: str
    budget_tokens: float
    """NaN where the run did not say."""
    start_version: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run folder, read once. Example: ``read_run(Path("runs/quickstart"))``."""

    paths: RunPaths
    name: str
    seed: int
    events: dict[str, tuple[Event, ...]]
    """By event name, each identity once, in the order of first appearance."""
    plan: Plan | None
    seconds: float
    """Wall time between consecutive events, pauses of more than ten minutes left out, and what
    another run did for this one."""

    def of(self, event: str) -> tuple[Event, ...]:
        """All events of this name; empty if there are none."""
        return self.events.get(event, ())

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages that were started, in order."""
        return tuple(
            Stage(
                text(event, "stage"),
                text(event, "mode"),
                number(event, "budget_tokens"),
                number(event, "version"),
            )
            for event in self.of("stage_started")
        )

    @property
    def is_only_measured(self) -> bool:
        """Whether it is a model that ``e3mega eval`` or ``asymmetry`` measured, and no run."""
        return self.plan is None and not self.of("step")

    @property
    def training_stages(self) -> tuple[Stage, ...]:
        """The RL stages that were started, in order."""
        return tuple(stage for stage in self.stages if stage.mode == "rl")

    @property
    def first_rl_version(self) -> float:
        """The version that the first RL stage began with; 0 where the run does not say."""
        starts = [stage.start_version for stage in self.training_stages]
        return starts[0] if starts and math.isfinite(starts[0]) else 0.0


@dataclass(frozen=True, slots=True)
class Cohort:
    """Runs drawn as one line: one run, or runs of one name that differ in their seed."""

    label: str
    runs: tuple[Run, ...]


def number(event: Event, field: str) -> float:
    """The field as a float; NaN if it is missing or no number."""
    value = event.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def numbers(event: Event, field: str) -> list[float]:
    """The field as a list of floats, NaN for what is no number; empty if it is no list."""
    value = event.get(field)
    if not isinstance(value, list):
        return []
    return [number({"item": item}, "item") for item in value]


def text(event: Event, field: str) -> str:
    """The field as text; empty if it is missing."""
    value = event.get(field)
    return "" if value is None else str(value)


def read_run(run_dir: Path) -> Run:
    """Read metrics and plan of a run folder; fields that are missing there stay missing.

    Raises RecordError when the folder has no metrics of a loop.
    """
    paths = RunPaths(run_dir)
    source = paths.metrics("loop")
    measured = asymmetry_events(GradePaths(run_dir).asymmetry)
    if not source.exists() and not measured:
        raise RecordError(
            f"report: {source} does not exist; give the folder of a run that has been started, or "
            "of e3mega eval or asymmetry"
        )
    latest: dict[str, dict[tuple[str, ...], Event]] = {}
    times: list[float] = []
    for event in (*read_metrics(source), *measured):
        kind = text(event, "event")
        if "shared_from" not in event:
            times.append(number(event, "time"))
        fields = IDENTITY.get(kind, ("time",))
        identity = tuple(text(event, field) for field in fields)
        known = latest.setdefault(kind, {})
        if kind not in FIRST_COUNTS or identity not in known:
            known[identity] = event
    events = {kind: tuple(by_identity.values()) for kind, by_identity in latest.items()}
    started = events["run_started"][0] if "run_started" in events else {}
    seed = number(started, "seed")
    return Run(
        paths=paths,
        name=text(started, "name") or run_dir.resolve().name,
        seed=-1 if math.isnan(seed) else int(seed),
        events=_ordered(events),
        plan=_plan(paths.plan),
        seconds=_working_seconds(times),
    )


def cohorts_of(runs: Sequence[Run]) -> tuple[Cohort, ...]:
    """Runs of one name and different seeds become one cohort; all others stand alone.

    A sweep puts the seed into the name; such runs are of one name too.
    """
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        name = run.name.replace(f"-seed-{run.seed}", "")
        by_name.setdefault(name, []).append(run)
    cohorts: list[Cohort] = []
    for name, members in by_name.items():
        if len({run.seed for run in members}) == len(members):
            label = f"{name} ({len(members)} seeds)" if len(members) > 1 else members[0].name
            cohorts.append(Cohort(label, tuple(members)))
        else:
            cohorts.extend(Cohort(str(run.paths.run_dir.name), (run,)) for run in members)
    return tuple(cohorts)


def asymmetry_events(path: Path) -> list[Event]:
    """What ``e3mega asymmetry`` wrote, as an event of the report; none without the file."""
    if not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    rows, contexts = content["chained"], content.get("contexts", [])
    label = Path(content["model"]).name
    attempts: Event = {
        "event": "asymmetry",
        "label": label,
        "attempts": [row["num_attempts"] for row in rows],
        "k": [point["k"] for point in rows[0]["points"]] if rows else [],
        "pass_at_k": [[point["pass_at_k"] for point in row["points"]] for row in rows],
    }
    fields = ("attempt", "context", "progress", "repeat")
    logprobs: Event = {field: [point[field] for point in contexts] for field in fields}
    return [attempts, {**logprobs, "event": "attempt_logprobs", "label": label}]


def _ordered(events: dict[str, tuple[Event, ...]]) -> dict[str, tuple[Event, ...]]:
    order: dict[str, Callable[[Event], float]] = {
        "step": lambda event: number(event, "step"),
        "stage_started": lambda event: number(event, "index"),
    }
    for kind in order.keys() & events.keys():
        events[kind] = tuple(sorted(events[kind], key=order[kind]))
    return events


def _working_seconds(times: Sequence[float]) -> float:
    gaps = [after - before for before, after in pairwise(times)]
    return math.fsum(gap for gap in gaps if 0.0 <= gap <= 600.0)


def _plan(path: Path) -> Plan | None:
    try:
        return read_plan(path)
    except (FileNotFoundError, RecordError):
        return None
