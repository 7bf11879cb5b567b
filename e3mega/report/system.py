"""Figures of where the time goes and how well both sides of a weight sync agree."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Sequence

import numpy as np

from e3mega.report.canvas import QUIET, SERIES, FloatArray, Panel, new_axes, panel
from e3mega.report.drawing import Cell, Drawing, Table
from e3mega.report.lines import Quantity, draw_lines, lines_table
from e3mega.report.runs import Cohort, Event, Run, number, text

PHASES = ("generation", "verify", "pack", "train", "sync", "canary", "checkpoint", "evaluate")
PHASE_COLOURS = (*(SERIES[place] for place in (0, 4, 5, 1, 2, 3, 6)), QUIET)


def draw_time(cohorts: Sequence[Cohort]) -> Drawing | None:
    """Seconds of each round by phase, for the first run, and the phases' sums for each run."""
    panels: list[Panel] = []
    runs = [run for cohort in cohorts for run in cohort.runs if run.of("round")]
    if not runs:
        return None
    rl_rounds = _rl_rounds(runs[0])
    shown = rl_rounds or runs[0].of("round")
    what = "RL rounds" if rl_rounds else "rounds"
    panels.append(_stacked(shown, f"{what} of {runs[0].name}" if len(runs) > 1 else what))
    for run in runs[:4]:
        title = "sum over all rounds"
        panels.append(_sums(run, title if len(runs) == 1 else f"{run.name}, seed {run.seed}"))
    fields = tuple(f"{phase}_s" for phase in PHASES)
    table = lines_table(
        cohorts, (*fields, "total_s", "num_redrawn"), events=_all_rounds, x_field="round"
    )
    return Drawing(tuple(panels), table, _time_notes(runs))


def _all_rounds(run: Run) -> tuple[Event, ...]:
    return run.of("round")


def _rl_rounds(run: Run) -> tuple[Event, ...]:
    names = {stage.name for stage in run.training_stages}
    return tuple(event for event in run.of("round") if text(event, "stage") in names)


def _seconds(events: Sequence[Event], phase: str) -> FloatArray:
    return np.nan_to_num(np.array([number(event, f"{phase}_s") for event in events]))


def _stacked(rounds: Sequence[Event], title: str) -> Panel:
    axes = new_axes("round", "seconds")
    x = np.arange(1, len(rounds) + 1)
    below = np.zeros(len(rounds))
    for phase, colour in zip(PHASES, PHASE_COLOURS, strict=True):
        seconds = _seconds(rounds, phase)
        if seconds.sum() <= 0.0:
            continue
        axes.fill_between(
            np.concatenate([x - 0.5, x[-1:] + 0.5]),
            np.append(below, below[-1]),
            np.append(below + seconds, below[-1] + seconds[-1]),
            step="post",
            color=colour,
            alpha=0.85,
            linewidth=0,
        )
        below = below + seconds
    axes.set_xlim(0.5, len(rounds) + 0.5)
    # Rounds with a checkpoint or a cold start would flatten all others.
    typical = float(np.percentile(below, 97))
    axes.set_ylim(0.0, max(typical * 1.3, 1e-3))
    return panel(f"{title}, seconds by phase (colours as beside)", axes)


def _sums(run: Run, title: str) -> Panel:
    rounds = run.of("round")
    sums = [float(_seconds(rounds, phase).sum()) for phase in PHASES]
    everything = float(_seconds(rounds, "total").sum())
    rest = everything - math.fsum(sums)
    spent = [place for place, value in enumerate(sums) if value > 0.0]
    names, colours = [PHASES[i] for i in spent], [PHASE_COLOURS[i] for i in spent]
    sums = [sums[i] for i in spent]
    if rest > 0.005 * everything:
        names, colours, sums = [*names, "rest"], [*colours, QUIET], [*sums, rest]
    whole = max(math.fsum(sums), 1e-9)
    axes = new_axes("seconds", "")
    rows = np.arange(len(names))[::-1]
    axes.barh(rows, sums, color=colours, height=0.66, alpha=0.9)
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for row, value in zip(rows, sums, strict=True):
        axes.annotate(
            f"{value:.3g} s, {value / whole:.0%}",
            xy=(value, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    axes.set_xlim(0.0, max([*sums, 1e-9]) * 1.32)
    axes.set_position((0.2, 0.155, 0.78, 0.8))
    return panel(title, axes)


def _time_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    notes: list[str] = []
    for run in runs:
        rounds, rl_rounds = run.of("round"), _rl_rounds(run)
        total = float(_seconds(rounds, "total").sum())
        words = f"{run.name}, seed {run.seed}: {len(rounds)} rounds in {total:.0f} s"
        if rl_rounds:
            median = float(np.median(_seconds(rl_rounds, "total")))
            words += f"; the median RL round takes {median:.2f} s"
        redrawn = float(np.nansum([number(event, "num_redrawn") for event in rounds]))
        notes.append(f"{words}; {redrawn:.0f} completions were generated again after a kill.")
    return tuple(notes)


def draw_sync(cohorts: Sequence[Cohort]) -> Drawing | None:
    """Duration of each weight sync, and the canary's differences after it."""

    def syncs(run: Run) -> tuple[Event, ...]:
        return run.of("sync")

    def canaries(run: Run) -> tuple[Event, ...]:
        return tuple(_above_floor(event) for event in run.of("canary"))

    panels: list[Panel] = []
    axes = new_axes("version", "seconds")
    duration = (Quantity("seconds", ""),)
    if draw_lines(axes, cohorts, duration, events=syncs, x_field="version"):
        axes.set_ylim(bottom=0.0)
        panels.append(panel("weight sync", axes))
    axes = new_axes("version", "difference of log-probs, nats")
    differences = (
        Quantity("max_abs_diff", "log-probs"),
        Quantity("max_abs_change_diff", "their change"),
    )
    if draw_lines(axes, cohorts, differences, events=canaries, x_field="version", window=1):
        axes.set_yscale("log")
        axes.axhline(1e-3, color=QUIET, linewidth=1.0, linestyle=(0, (5, 2)))
        axes.annotate(
            "limit of the log-probs",
            xy=(1.0, 1e-3),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8.5,
            color=QUIET,
        )
        panels.append(panel("canary, largest difference of both sides", axes))
    if not panels:
        return None
    sync_table = lines_table(cohorts, ("seconds", "bytes"), events=syncs, x_field="version")
    return Drawing(tuple(panels), _joined(cohorts, sync_table), _sync_notes(cohorts))


def _above_floor(event: Event) -> Event:
    """The event with differences of exactly zero raised to 1e-9, for the logarithmic axis."""
    fields = ("max_abs_diff", "max_abs_change_diff")
    known = {field: number(event, field) for field in fields}
    return {**event, **{field: max(known[field], 1e-9) for field in fields if field in event}}


def _joined(cohorts: Sequence[Cohort], syncs: Table) -> Table:
    differences = {
        (run.name, float(run.seed), number(event, "version")): (
            number(event, "max_abs_diff"),
            number(event, "max_abs_change_diff"),
            number(event, "num_tokens"),
        )
        for cohort in cohorts
        for run in cohort.runs
        for event in run.of("canary")
    }
    nothing = (math.nan, math.nan, math.nan)
    rows: list[tuple[Cell, ...]] = []
    for name, seed, _, version, seconds, size in syncs.rows:
        found = differences.get((str(name), float(seed), float(version)), nothing)
        rows.append((name, seed, version, seconds, size, *found))
    columns = ("run", "seed", "version", "sync_s", "sync_bytes", "max_abs_diff")
    return Table((*columns, "max_abs_change_diff", "num_tokens"), tuple(rows))


def _sync_notes(cohorts: Sequence[Cohort]) -> tuple[str, ...]:
    notes: list[str] = []
    for run in (run for cohort in cohorts for run in cohort.runs):
        sizes = [number(event, "bytes") for event in run.of("sync")]
        worst = [number(event, "max_abs_diff") for event in run.of("canary")]
        if sizes and not math.isnan(sizes[-1]):
            words = f"{run.name}, seed {run.seed}: {len(sizes)} syncs of {sizes[-1] / 1e6:.1f} MB"
            finite = [value for value in worst if math.isfinite(value)]
            words += f"; the largest canary difference is {max(finite):.2g} nats" if finite else ""
            notes.append(words + ".")
    return tuple(notes)
