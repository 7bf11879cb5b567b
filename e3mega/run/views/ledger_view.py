"""The newest ledger of a run as a table for a terminal: a row a stage, and their sum."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from e3mega.report.ledger import ledger_rows
from e3mega.rollout.ledger import Ledger
from e3mega.run.views.progress import Event

_PROMPTS = ("issued", "answered", "lost")
_TOKENS = ("generated", "truncated", "trained", "evaluated", "discarded")
_EXACT = 100_000
"""From this on a count is shown in thousands: a table must fit 80 columns."""


def ledger_table(events: Sequence[Event]) -> Table | None:
    """Prompts issued, answered and lost, and tokens by what came of them; None without a ledger.

    The caption names the reasons of what was discarded, prompts that were sent again, and given
    traces, which are trained on but not generated.
    """
    ledgers = [event for event in events if event["event"] == "ledger"]
    if not ledgers:
        return None
    table = Table(box=None, padding=(0, 1, 0, 0), caption_justify="left")
    table.add_column("ledger")
    for name in (*_PROMPTS, *_TOKENS):
        table.add_column(name, justify="right", no_wrap=True)
    *stages, (whole, total) = ledger_rows(ledgers[-1])
    for name, ledger in stages:
        table.add_row(name, *_cells(ledger))
    table.add_row(whole, *_cells(total), style="bold")
    table.caption = "; ".join(_remarks(total))
    return table


def _cells(ledger: Ledger) -> list[str]:
    discarded = sum(amount.tokens for amount in ledger.discarded.values())
    amounts = (ledger.generated, ledger.truncated, ledger.trained, ledger.evaluated)
    prompts = (ledger.prompts_issued, ledger.prompts_answered, ledger.prompts_lost)
    return [_count(each) for each in (*prompts, *(a.tokens for a in amounts), discarded)]


def _remarks(ledger: Ledger) -> Iterator[str]:
    yield "prompts issued, answered, lost; tokens of what was generated"
    for reason, amount in ledger.discarded.items():
        yield f"discarded as {reason.value}: {_count(amount.tokens)}"
    if ledger.prompts_redrawn:
        yield f"{_count(ledger.prompts_redrawn)} prompts sent again"
    if ledger.supervised.tokens:
        yield f"{_count(ledger.supervised.tokens)} tokens of given traces trained on"


def _count(value: int) -> str:
    return f"{value}" if value < _EXACT else f"{round(value / 1000)}k"
