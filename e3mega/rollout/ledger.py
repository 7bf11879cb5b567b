"""The ledger: every prompt, rollout and token of a run, each in exactly one place."""

from dataclasses import dataclass, field, replace
from enum import Enum

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import RecordError


class DiscardReason(Enum):
    """Why generated rollouts were not trained on."""

    STALE = "stale"
    """Older than ``rollout.max_lag`` when their turn came."""
    STAGE_ENDED = "stage_ended"
    """Generated ahead for a stage that ended first."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Rollouts and their completion tokens. Example: ``Amount(256, 12800)``."""

    rollouts: int = 0
    tokens: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.rollouts + other.rollouts, self.tokens + other.tokens)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.rollouts - other.rollouts, self.tokens - other.tokens)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Counts since the start of the run; each method gives the ledger after one event.

    Example: ``Ledger().issue(32).answer(32, Amount(256, 9000), num_truncated=12)``.
    """

    prompts_issued: int = 0
    """Requests sent to the tier, those sent again after a kill included."""
    prompts_answered: int = 0
    prompts_lost: int = 0
    """Requests in flight when a job died; their completions are nobody's."""
    prompts_redrawn: int = 0
    """Of the issued ones, those sent again, with the same seed, for a lost one."""
    prompts_reused: int = 0
    """Of the answered ones, those read back from disk after a resume, not generated again."""
    generated: Amount = Amount()
    num_truncated: int = 0
    """Of the generated rollouts, those cut by their budget."""
    trained: Amount = Amount()
    evaluated: Amount = Amount()
    """Generated for a measurement: evaluation, pass@k or the budget rule."""
    discarded: dict[DiscardReason, Amount] = field(default_factory=dict[DiscardReason, Amount])
    supervised: Amount = Amount()
    """Given traces trained on; they are not generated."""
    batches_by_lag: dict[int, int] = field(default_factory=dict[int, int])
    """RL batches trained on, by their lag in rounds."""

    def issue(self, num_prompts: int) -> "Ledger":
        """Requests were sent to the tier."""
        return replace(self, prompts_issued=self.prompts_issued + num_prompts)

    def answer(self, num_prompts: int, amount: Amount, *, num_truncated: int) -> "Ledger":
        """Groups came back whole."""
        return replace(
            self,
            prompts_answered=self.prompts_answered + num_prompts,
            generated=self.generated + amount,
            num_truncated=self.num_truncated + num_truncated,
        )

    def reuse(self, num_prompts: int) -> "Ledger":
        """Groups just counted as issued and answered were read from disk."""
        return replace(self, prompts_reused=self.prompts_reused + num_prompts)

    def redraw(self, num_prompts: int) -> "Ledger":
        """Prompts were in flight at a kill and are sent again.

        Counts the sending that was lost; the new one is counted by ``issue`` and ``answer``, since
        the ledger of a checkpoint knows nothing of the round that was under way.
        """
        return replace(
            self,
            prompts_issued=self.prompts_issued + num_prompts,
            prompts_lost=self.prompts_lost + num_prompts,
            prompts_redrawn=self.prompts_redrawn + num_prompts,
        )

    def train(self, amount: Amount, *, lag: int) -> "Ledger":
        """An optimizer step consumed one batch of rollouts."""
        lags = {**self.batches_by_lag, lag: self.batches_by_lag.get(lag, 0) + 1}
        return replace(
            self, trained=self.trained + amount, batches_by_lag=dict(sorted(lags.items()))
        )

    def train_supervised(self, amount: Amount) -> "Ledger":
        """An optimizer step consumed one batch of given traces."""
        return replace(self, supervised=self.supervised + amount)

    def evaluate(self, amount: Amount) -> "Ledger":
        """Rollouts were measured."""
        return replace(self, evaluated=self.evaluated + amount)

    def discard(self, amount: Amount, reason: DiscardReason) -> "Ledger":
        """Rollouts were dropped."""
        total = self.discarded.get(reason, Amount()) + amount
        return replace(self, discarded={**self.discarded, reason: total})

    @property
    def in_flight(self) -> int:
        """Prompts sent and neither answered nor lost."""
        return self.prompts_issued - self.prompts_answered - self.prompts_lost

    @property
    def pending(self) -> Amount:
        """Rollouts generated and not yet trained on, measured or discarded."""
        used = sum(self.discarded.values(), self.trained + self.evaluated)
        return self.generated - used

    def check(self, *, is_drained: bool) -> None:
        """RecordError names the first sum that does not hold.

        ``is_drained``: nothing may be in flight or pending, as at the end of a run.
        """
        pending = self.pending
        if not is_drained:
            too_much = min(self.in_flight, pending.rollouts, pending.tokens) < 0
        else:
            too_much = any((self.in_flight, pending.rollouts, pending.tokens))
        if too_much:
            raise RecordError(
                f"ledger: {self.in_flight} prompts in flight, {pending.rollouts} rollouts and "
                f"{pending.tokens} tokens pending; need {'0' if is_drained else '0 or more'} of "
                f"each; the counts are {self.to_json()}"
            )
        if self.num_truncated > self.generated.rollouts or self.prompts_redrawn > self.prompts_lost:
            raise RecordError(
                "ledger: more rollouts truncated than generated, or more prompts redrawn than "
                f"lost; the counts are {self.to_json()}"
            )

    def to_json(self) -> str:
        """All counts as JSON."""
        return _ADAPTER.dump_json(self).decode()


_ADAPTER = TypeAdapter(Ledger)


def read_ledger(text: str) -> Ledger:
    """The ledger that ``to_json`` wrote; RecordError if the text is none."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise RecordError(f"ledger: not a ledger of this version: {error}") from error
