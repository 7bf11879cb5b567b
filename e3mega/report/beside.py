"""Several runs as one table: what differs between them, and what each was to cost and has cost."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pydantic import BaseModel

from e3mega.errors import RecordError
from e3mega.metrics import Json
from e3mega.plan.estimate import stage_seconds
from e3mega.plan.planfile import Plan, StagePlan
from e3mega.report.runs import Event, Run, number, read_run, text
from e3mega.rollout.shared import read_shared

_SECTIONS = (
    *("budget", "exit", "data", "task", "rollout", "loss", "generation", "optimizer"),
    *("evaluation", "learner"),
)
_MAX_COLUMNS = 8
"""Ways in which runs differ that the table has room for."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run was to cost, and what it has cost, the stages that others trained left out."""

    planned_hours: float
    """Device-hours of the plan, if every stage takes all its steps."""
    spent_hours: float
    """Devices of the plan for as long as the run was at work, starts included."""
    generated_tokens: float
    trained_tokens: float


@dataclass(frozen=True, slots=True)
class Line:
    """One run. Example: ``Line("a-seed-1", ("1", "0.5"), Cost(0.1, 0.2, 9e3, 7e3), "warmup")``."""

    name: str
    differs: tuple[str, ...]
    """Its value in each of the columns."""
    cost: Cost
    shares: str
    """Stages that it begins behind; empty if it trained all."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The table. Runs that others began behind are lines of it, given or not."""

    columns: tuple[str, ...]
    """Keys whose values differ; keys that differ in the same way share a column."""
    lines: tuple[Line, ...]

    @property
    def planned_hours(self) -> float:
        """Device-hours of all plans."""
        return sum(line.cost.planned_hours for line in self.lines)

    @property
    def spent_hours(self) -> float:
        """Device-hours of all runs."""
        return sum(line.cost.spent_hours for line in self.lines)


def beside(runs: Sequence[Run]) -> Beside:
    """The table of these runs and of those they began behind."""
    every = [*_sources(runs), *runs]
    leaves = [_leaves(run.plan) if run.plan is not None else {} for run in runs]
    keys = sorted({key for each in leaves for key in each})
    by_values: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        values = tuple(each.get(key, "") for each in leaves)
        if len(set(values)) > 1:
            by_values.setdefault(values, []).append(key)
    shown = list(by_values.items())[:_MAX_COLUMNS]
    rows = {id(run): tuple(v[i] for v, _ in shown) for i, run in enumerate(runs)}
    blank = ("",) * len(shown)
    return Beside(
        columns=tuple(_title(keys) for _, keys in shown),
        lines=tuple(_line(run, rows.get(id(run), blank)) for run in every),
    )


def beside_html(table: Beside) -> str:
    """The table as HTML, with the sum of the costs below."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles_of(table))
    rows = [_row(cells_of(line)) for line in table.lines]
    total = ["in all", *("" for _ in table.columns), ""]
    total += [f"{table.planned_hours:.2f}", f"{table.spent_hours:.2f}", "", ""]
    return (
        '<p class="how">What differs between the runs, and device-hours as planned and as spent: '
        "the devices of the plan for as long as the run was at work, starts included. A stage that "
        "another run trained is counted there, and tokens are each run's own.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}{_row(total)}</tbody></table></div>"
    )


def titles_of(table: Beside) -> list[str]:
    """The titles of the cells of a line."""
    costs = ("planned h", "spent h", "generated", "trained")
    return ["run", *table.columns, "begins behind", *costs]


def cells_of(line: Line) -> list[str]:
    """The cells of a line, for the page and for a terminal."""
    cost = line.cost
    return [
        *(line.name, *line.differs, line.shares),
        *(f"{cost.planned_hours:.2f}", f"{cost.spent_hours:.2f}"),
        *(f"{cost.generated_tokens:,.0f}", f"{cost.trained_tokens:,.0f}"),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _sources(runs: Sequence[Run]) -> list[Run]:
    """The runs that these began behind and that are still there, each before the next."""
    known = {run.paths.run_dir.resolve() for run in runs}
    found: list[Run] = []
    waiting = list(runs)
    while waiting:
        shared = read_shared(waiting.pop(0).paths)
        folder = None if shared is None else Path(shared.run_dir)
        if folder is None or folder in known:
            continue
        known.add(folder)
        try:
            source = read_run(folder)
        except RecordError:
            continue
        found.insert(0, source)
        waiting.append(source)
    return found


def _line(run: Run, differs: tuple[str, ...]) -> Line:
    shared = read_shared(run.paths)
    stages = () if shared is None else shared.stages
    nothing: Event = {}
    newest = max(run.of("ledger"), key=lambda event: number(event, "version"), default=nothing)
    plan = run.plan
    own = [] if plan is None else [each for each in plan.stages if each.name not in stages]
    seconds = 0.0
    if plan is not None and plan.estimates.budgets:
        seconds = sum(stage_seconds(stage, plan.estimates.budgets) for stage in own)
    num_devices = 0 if plan is None else plan.estimates.num_devices
    return Line(
        name=run.name,
        differs=differs,
        cost=Cost(
            planned_hours=num_devices * seconds / 3600,
            spent_hours=num_devices * run.seconds / 3600,
            generated_tokens=_tokens(newest.get("generated")),
            trained_tokens=_tokens(newest.get("trained")) + _tokens(newest.get("supervised")),
        ),
        shares="" if shared is None else f"{', '.join(stages)} of {shared.name}",
    )


def _tokens(amount: Json) -> float:
    value = amount.get("tokens") if isinstance(amount, dict) else None
    return float(value) if isinstance(value, int | float) else 0.0


def _leaves(plan: Plan) -> dict[str, str]:
    """What decides a run's outcome, by key; ``STAGE.section.key`` inside a stage."""
    found: dict[str, Json] = {"seed": plan.seed}
    found |= _dumped("model", plan.model) | _dumped("layout", plan.layout)
    for stage in plan.stages:
        for section in _SECTIONS:
            found |= _dumped(f"{stage.name}.{section}", _section(stage, section))
    return {key: text({key: _short(value)}, key) for key, value in found.items()}


def _section(stage: StagePlan, name: str) -> BaseModel:
    section = getattr(stage, name)
    assert isinstance(section, BaseModel), f"{name} is a section"
    return section


def _short(value: Json) -> Json:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _dumped(prefix: str, options: BaseModel) -> dict[str, Json]:
    return dict(_flat(prefix, options.model_dump(mode="json")))


def _flat(prefix: str, value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}", inner)
    else:
        yield prefix, value


def _title(keys: Sequence[str]) -> str:
    """Keys that differ together: the end they have in common, or the first and how many more."""
    ends = {key.split(".", 1)[-1] for key in keys}
    if len(keys) > 1 and len(ends) == 1:
        return ends.pop()
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
