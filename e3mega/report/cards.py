"""Rollouts as HTML cards: the problem, each attempt with its verdict, the answer, the outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from html import escape


class Outcome(Enum):
    """How a rollout ended."""

    CORRECT = "correct"
    """It earned its reward."""
    INCORRECT = "incorrect"
    """The model ended it without an answer that counts."""
    TRUNCATED = "truncated"
    """It reached its budget before it solved the problem."""


class Verdict(Enum):
    """What a rollout says of one of its attempts."""

    YES = "yes"
    """Called a hit, and it is one."""
    FALSE = "false"
    """Called a hit, and it is none."""
    NO = "no"
    """Called a miss, and it is one."""
    MISSED = "missed"
    """Called a miss, and it is a hit."""
    ANSWER = "answer"
    """No attempt, but the answer that earned the reward."""
    NONE = "none"
    """Not judged."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a completion. Example: ``Piece("3 + 5 = 8 * 7 = 56", Verdict.NO, True)``."""

    words: str
    verdict: Verdict
    is_attempt: bool


@dataclass(frozen=True, slots=True)
class ShownRollout:
    """A rollout as a person reads it."""

    run: str
    purpose: str
    stage: str
    round: int
    version: int
    problem: str
    pieces: tuple[Piece, ...]
    outcome: Outcome
    reward: float
    num_attempts: int
    num_tokens: int
    budget_tokens: int


SIGNS = {Outcome.CORRECT: "✓", Outcome.INCORRECT: "✗", Outcome.TRUNCATED: "✂"}
VERDICT_WORDS = {
    Verdict.YES: "✓ hit",
    Verdict.FALSE: "! false hit",
    Verdict.NO: "✗ miss",
    Verdict.MISSED: "! missed hit",
    Verdict.ANSWER: "✓ answer",
    Verdict.NONE: "",
}


def cards_html(rollouts: Sequence[ShownRollout], *, with_run: bool) -> str:
    """Filters and one card a rollout; everything that a model wrote is escaped."""
    stages = dict.fromkeys(rollout.stage for rollout in rollouts)
    options = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in stages)
    outcomes = "".join(f'<option value="{o.value}">{o.value}</option>' for o in Outcome)
    filters = (
        '<div class="filters"><label>stage <select id="filter-stage"><option value="">any'
        f'</option>{options}</select></label><label>outcome <select id="filter-outcome">'
        f'<option value="">any</option>{outcomes}</select></label>'
        '<label>attempts, at least <input id="filter-attempts" type="number" min="0" value="0" '
        'style="width:5em"></label>'
        '<label>tokens, at least <input id="filter-tokens" type="number" min="0" value="0" '
        'style="width:6em"></label><span id="filter-count"></span></div>'
    )
    cards = "".join(_card(rollout, with_run=with_run) for rollout in rollouts)
    return f'{filters}<div class="cards">{cards}</div>'


def _card(rollout: ShownRollout, *, with_run: bool) -> str:
    kind = rollout.outcome.value
    where = f"{rollout.stage}, {rollout.purpose}, version {rollout.version}"
    attempts = "1 attempt" if rollout.num_attempts == 1 else f"{rollout.num_attempts} attempts"
    facts = [where, attempts, f"{rollout.num_tokens} of {rollout.budget_tokens} tokens"]
    facts = [rollout.run, *facts] if with_run else facts
    heads = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    lines = "".join(_line(piece) for piece in rollout.pieces)
    return (
        f'<article class="card {kind}" data-stage="{escape(rollout.stage)}" '
        f'data-outcome="{kind}" data-attempts="{rollout.num_attempts}" '
        f'data-tokens="{rollout.num_tokens}"><header>'
        f'<span class="outcome">{SIGNS[rollout.outcome]} {kind}</span>{heads}</header>'
        f'<p class="problem">{escape(rollout.problem)}</p><ol>{lines}</ol></article>'
    )


def _line(piece: Piece) -> str:
    classes = "attempt" if piece.is_attempt else "rest"
    classes += " answer" if piece.verdict is Verdict.ANSWER else ""
    words = VERDICT_WORDS[piece.verdict]
    verdict = f'<span class="verdict {piece.verdict.value}">{words}</span>' if words else ""
    return f'<li class="{classes}"><span class="words">{escape(piece.words)}</span>{verdict}</li>'
