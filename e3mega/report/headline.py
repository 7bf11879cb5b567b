"""The top of the page: what was run, and accuracy before and after, as HTML."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from e3mega.report.accuracy import (
    BASE_LABEL,
    Point,
    end_label,
    evaluation,
    mean_points,
    points_of,
    slices_of,
)
from e3mega.report.runs import Cohort, Run, number, text

MULTIPLES = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Change:
    """Accuracy of the base and of the end at one budget on one slice, with standard errors."""

    cohort: str
    slice_name: str
    multiple: int
    budget: float
    before: Point
    after: Point
    gain: float
    gain_stderr: float


def changes_of(cohort: Cohort, slice_name: str) -> list[Change]:
    """The changes at 1x, 2x and 4x of the first RL budget; those not measured are left out.

    The error of a single run's gain is that of independent samples; both are taken on the same
    problems, so it is on the large side. That of several seeds comes from their spread.
    """
    result: list[Change] = []
    for multiple in MULTIPLES:
        pairs = [
            (before, after, budget)
            for run in cohort.runs
            for before, after, budget in _pair(run, slice_name, multiple)
        ]
        if not pairs or len({budget for _, _, budget in pairs}) > 1:
            continue
        before = mean_points([[pair[0]] for pair in pairs])[0]
        after = mean_points([[pair[1]] for pair in pairs])[0]
        gains = [pair[1].accuracy - pair[0].accuracy for pair in pairs]
        error = math.hypot(before.stderr, after.stderr)
        if len(gains) > 1:
            error = float(np.std(gains, ddof=1)) / math.sqrt(len(gains))
        budget = pairs[0][2]
        result.append(
            Change(
                cohort=cohort.label,
                slice_name=slice_name,
                multiple=multiple,
                budget=budget,
                before=before,
                after=after,
                gain=float(np.mean(gains)),
                gain_stderr=error,
            )
        )
    return result


def _pair(run: Run, slice_name: str, multiple: int) -> list[tuple[Point, Point, float]]:
    end = end_label(run)
    base_event = evaluation(run, BASE_LABEL, slice_name)
    end_event = evaluation(run, end, slice_name) if end is not None else None
    if base_event is None or end_event is None or not run.training_stages:
        return []
    budget = multiple * run.training_stages[0].budget_tokens
    before = [point for point in points_of(base_event) if point.budget == budget]
    after = [point for point in points_of(end_event) if point.budget == budget]
    return [(before[0], after[0], budget)] if before and after else []


def headline_html(cohorts: Sequence[Cohort]) -> str:
    """Title, what was run, tiles of the main numbers, and the before and after table."""
    title = " and ".join(cohort.label for cohort in cohorts[:3])
    title += f" and {len(cohorts) - 3} more" if len(cohorts) > 3 else ""
    return (
        f'<header><p class="kicker">e3mega report</p><h1>{escape(title)}</h1>'
        f'<ul class="runs">{_run_lines(cohorts)}</ul><div class="summary">{_tiles(cohorts)}'
        f"{_change_table(cohorts)}</div></header>"
    )


def status_of(run: Run) -> str:
    """How the run ended, in words."""
    failed, finished = run.of("run_failed"), run.of("run_finished")
    if finished and not (failed and number(failed[-1], "time") > number(finished[-1], "time")):
        return f"finished at version {number(finished[-1], 'version'):.0f}"
    if failed:
        return f"stopped: {text(failed[-1], 'reason')}"
    return "not finished"


def _run_lines(cohorts: Sequence[Cohort]) -> str:
    """One line for all runs that did the same, with their seeds."""
    alike: dict[tuple[str, ...], list[Run]] = {}
    for run in (run for cohort in cohorts for run in cohort.runs):
        alike.setdefault((run.name, *_facts(run)), []).append(run)
    lines: list[str] = []
    for (name, *facts), runs in alike.items():
        seeds = ", ".join(str(run.seed) for run in runs)
        parts = [f"seed {seeds}" if len(runs) == 1 else f"seeds {seeds}", *facts]
        if any(run.seconds for run in runs):
            parts.append(" / ".join(f"{run.seconds / 60:.1f}" for run in runs) + " minutes")
        # The folder of an asymmetry tells neither a seed nor times.
        words = " · ".join(escape(part) for part in (parts if runs[0].seed >= 0 else parts[1:]))
        lines.append(f"<li><b>{escape(name)}</b> · {words}</li>")
    return "".join(lines)


def _facts(run: Run) -> list[str]:
    if run.is_only_measured:
        budgets = [stage.budget_tokens for stage in run.training_stages]
        known = [f"trained at {each:.0f} tokens" for each in budgets if math.isfinite(each)]
        return ["measured", *known]
    steps: dict[str, int] = {}
    for event in run.of("step"):
        steps[text(event, "stage")] = steps.get(text(event, "stage"), 0) + 1
    stages = [
        f"{stage.name}: {steps.get(stage.name, 0)} steps"
        + ("" if math.isnan(stage.budget_tokens) else f" at {stage.budget_tokens:.0f} tokens")
        + (" (warm-up)" if stage.mode == "supervised" else "")
        for stage in run.stages
    ]
    resumed = [number(event, "attempt") for event in run.of("run_started")]
    again = [f"resumed {resumed[0]:.0f} times"] if resumed and resumed[0] > 0 else []
    return [*_model_words(run), *stages, *again, status_of(run)]


def _model_words(run: Run) -> list[str]:
    if run.plan is None:
        return []
    return [f"{run.plan.num_parameters / 1e6:.2f} M parameters"]


def _tiles(cohorts: Sequence[Cohort]) -> str:
    slices = slices_of(cohorts)
    if len(cohorts) != 1 or not slices:
        return ""
    tiles: list[str] = []
    for change in changes_of(cohorts[0], slices[0]):
        name = f"accuracy at {change.multiple}x the first RL budget ({change.budget:.0f} tokens)"
        values = f"{change.before.accuracy:.1%} <i>to</i> {change.after.accuracy:.1%}"
        gain = f"{change.gain:+.3f}{_error(change.gain_stderr)}"
        tiles.append(_tile(values, name, gain, is_better=change.gain > 0))
    before, after = (_mean_attempts(cohorts[0], slices[0], end=end) for end in (False, True))
    if math.isfinite(before) and math.isfinite(after):
        values = f"{before:.1f} <i>to</i> {after:.1f}"
        growth = f"{after / before:.1f} times the base's" if before > 0 else ""
        tiles.append(
            _tile(values, "attempts in a held-out completion", growth, is_better=after > before)
        )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _tile(values: str, name: str, detail: str, *, is_better: bool) -> str:
    kind = "detail better" if is_better else "detail worse"
    return (
        f'<div class="tile"><p class="value">{values}</p><p class="name">{escape(name)}</p>'
        f'<p class="{kind}">{detail}</p></div>'
    )


def _mean_attempts(cohort: Cohort, slice_name: str, *, end: bool) -> float:
    values: list[float] = []
    for run in cohort.runs:
        label = end_label(run) if end else BASE_LABEL
        event = evaluation(run, label, slice_name) if label is not None else None
        values.extend([number(event, "mean_attempts")] if event is not None else [])
    return float(np.mean(values)) if values else math.nan


def _change_table(cohorts: Sequence[Cohort]) -> str:
    changes = [
        change
        for slice_name in slices_of(cohorts)
        for cohort in cohorts
        for change in changes_of(cohort, slice_name)
    ]
    if not changes and all(run.is_only_measured for each in cohorts for run in each.runs):
        return ""
    if not changes:
        return '<p class="note">No accuracy before and after: the run was not evaluated twice.</p>'
    head = "<th>run</th>" if len(cohorts) > 1 else ""
    rows = "".join(_change_row(change, with_run=len(cohorts) > 1) for change in changes)
    return (
        '<div class="scroll"><table class="changes"><caption>Accuracy on held-out problems, '
        "&plusmn; one standard error, at multiples of the first RL budget</caption>"
        f"<thead><tr>{head}<th>problems</th><th>test budget</th><th>base</th><th>end</th>"
        f"<th>change</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _change_row(change: Change, *, with_run: bool) -> str:
    cells = [f"<td>{escape(change.cohort)}</td>"] if with_run else []
    cells.append(f"<td>{escape(change.slice_name)}</td>")
    cells.append(f"<td>{change.multiple}x <span>({change.budget:.0f} tokens)</span></td>")
    for point in (change.before, change.after):
        cells.append(f"<td>{_with_error(point.accuracy, point.stderr)}</td>")
    cells.append(f"<td><b>{change.gain:+.3f}</b>{_error(change.gain_stderr)}</td>")
    kind = ' class="whole"' if change.slice_name == "all" else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f}{_error(error)}"


def _error(error: float) -> str:
    return "" if math.isnan(error) else f" <span>&plusmn; {error:.3f}</span>"
