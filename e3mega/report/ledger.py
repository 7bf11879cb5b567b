"""The ledger of every run as a table: a row a stage and one for the run."""

import json
from collections.abc import Sequence
from dataclasses import fields
from html import escape

from e3mega.report.runs import Cohort, Event, Run, number
from e3mega.rollout.ledger import Amount, DiscardReason, Ledger, read_ledger

_FIELDS = frozenset(field.name for field in fields(Ledger))
_PROMPTS = (
    ("issued", "prompts_issued"),
    ("answered", "prompts_answered"),
    ("lost", "prompts_lost"),
    ("sent again", "prompts_redrawn"),
    ("read back", "prompts_reused"),
)
WHOLE = "run"
"""Name of the row that sums the stages."""


def ledger_rows(event: Event) -> tuple[tuple[str, Ledger], ...]:
    """Each stage's ledger by its name, then the run's, of an event ``ledger``.

    Stages that another run trained for this one come first and are in no sum. Raises RecordError
    where a value is none of a ledger's.
    """
    shared = [(f"{name} (of another run)", each) for name, each in _parts(event, "shared")]
    return (*shared, *_parts(event, "stages"), (WHOLE, _ledger(event)))


def _parts(event: Event, field: str) -> list[tuple[str, Ledger]]:
    value = event.get(field)
    parts = value.items() if isinstance(value, dict) else ()
    return [(name, _ledger(each)) for name, each in parts if isinstance(each, dict)]


def _ledger(values: Event) -> Ledger:
    return read_ledger(json.dumps({key: values[key] for key in values if key in _FIELDS}))


def ledger_html(cohorts: Sequence[Cohort]) -> str:
    """The tables of all runs that have a ledger; empty if none has."""
    runs = [run for cohort in cohorts for run in cohort.runs if run.of("ledger")]
    if not runs:
        return ""
    how = (
        "Where every prompt, token and rollout went: large numbers are tokens, small ones the "
        "rollouts that hold them. Generated ones were trained on, evaluated, or discarded; "
        "truncated ones are among them."
    )
    return f'<p class="how">{how}</p>' + "".join(_run_html(run) for run in runs)


def _run_html(run: Run) -> str:
    rows = ledger_rows(max(run.of("ledger"), key=lambda event: number(event, "version")))
    reasons = [
        reason for reason in DiscardReason if any(reason in row.discarded for _, row in rows)
    ]
    amounts = ("generated", "truncated", "trained", "evaluated")
    head = [name for name, _ in _PROMPTS]
    head += [*amounts, *(f"discarded: {each.value.replace('_', ' ')}" for each in reasons)]
    head += ["given traces", "batches by lag"]
    body: list[str] = []
    for name, ledger in rows:
        cells = [f"{getattr(ledger, field):,}" for _, field in _PROMPTS]
        cells += [_amount(getattr(ledger, field)) for field in amounts]
        cells += [_amount(ledger.discarded.get(reason, Amount())) for reason in reasons]
        lags = ", ".join(f"{lag}: {count:,}" for lag, count in ledger.batches_by_lag.items())
        cells += [_amount(ledger.supervised), lags]
        kind = ' class="whole"' if name == WHOLE else ""
        body.append(
            f"<tr{kind}><td>{escape(name)}</td>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>"
        )
    titles = "".join(f"<th>{escape(each)}</th>" for each in ("stage", *head))
    caption = escape(f"{run.name}, seed {run.seed}")
    return (
        f'<div class="scroll"><table class="ledger"><caption>{caption}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _amount(amount: Amount) -> str:
    return f"{amount.tokens:,}<span> {amount.rollouts:,}</span>" if amount.rollouts else "0"
