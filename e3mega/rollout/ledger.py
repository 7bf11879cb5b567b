"""The ledger: every prompt, rollout and token of a run, each in exactly one place."""

from dataclasses import dataclass, field, replace
from enum import Enum

from pydantic import TypeAdapter, ValidationError

from e3mega.curriculum.options import TokenCaps
from e3mega.errors import E3Error, RecordError


class DiscardReason(Enum):
    """Why generated rollouts were not trained on."""

    STAGE_ENDED = "stage_ended"
    """Generated ahead for a stage that ended first."""
    FLAT = "flat"
    """All samples of the group had the same reward, under dynamic sampling."""


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
    """Counts of a stage or of a run; each method gives the ledger after one event.

    Example: ``Ledger().issue(32).answer(32, Amount(256, 9000), truncated=Amount(12, 768))``.
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
    truncated: Amount = Amount()
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

    def answer(self, num_prompts: int, amount: Amount, *, truncated: Amount) -> "Ledger":
        """Groups came back whole."""
        return replace(
            self,
            prompts_answered=self.prompts_answered + num_prompts,
            generated=self.generated + amount,
            truncated=self.truncated + truncated,
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
        uncut = self.generated - self.truncated
        if min(uncut.rollouts, uncut.tokens) < 0 or self.prompts_redrawn > self.prompts_lost:
            raise RecordError(
                "ledger: more rollouts or tokens truncated than generated, or more prompts "
                f"redrawn than lost; the counts are {self.to_json()}"
            )

    def __add__(self, other: "Ledger") -> "Ledger":
        """Counts of both, as of several stages."""
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in self.__dataclass_fields__
            if name not in ("discarded", "batches_by_lag")
        }
        reasons = {*self.discarded, *other.discarded}
        discarded = {
            reason: self.discarded.get(reason, Amount()) + other.discarded.get(reason, Amount())
            for reason in sorted(reasons, key=lambda reason: reason.value)
        }
        lags = sorted({*self.batches_by_lag, *other.batches_by_lag})
        batches = {
            lag: self.batches_by_lag.get(lag, 0) + other.batches_by_lag.get(lag, 0) for lag in lags
        }
        return Ledger(**sums, discarded=discarded, batches_by_lag=batches)

    def to_json(self) -> str:
        """All counts as JSON."""
        return _ADAPTER.dump_json(self).decode()


@dataclass(frozen=True, slots=True)
class Intent:
    """The most tokens that the next piece of work can add. Example: ``Intent(generated=16384)``."""

    generated: int = 0
    trained: int = 0
    evaluated: int = 0
    discarded: int = 0


def check_caps(ledger: Ledger, caps: TokenCaps, intent: Intent, *, whose: str) -> None:
    """E3Error when work with this intent could pass a cap; ``whose`` names the key of the caps.

    A completion may take its whole budget, so a run stops before its cap, never behind it.
    """
    discarded = sum(ledger.discarded.values(), Amount()).tokens
    rows = (
        ("max_generated_tokens", ledger.generated.tokens, intent.generated),
        ("max_trained_tokens", ledger.trained.tokens + ledger.supervised.tokens, intent.trained),
        ("max_evaluated_tokens", ledger.evaluated.tokens, intent.evaluated),
        ("max_discarded_tokens", discarded, intent.discarded),
    )
    for name, used, more in rows:
        cap: int | None = getattr(caps, name)
        if cap is not None and more and used + more > cap:
            raise E3Error(
                f"{whose}.{name}: {used} tokens are used and the next piece of work may take "
                f"{more}, which would pass {cap}; go on with e3mega resume RUN --set "
                f"{whose}.{name}=TOKENS, or end the stage before it with exit: {{kind: tokens}}"
            )


_ADAPTER = TypeAdapter(Ledger)


def read_ledger(text: str) -> Ledger:
    """The ledger that ``to_json`` wrote; RecordError if the text is none."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise RecordError(f"ledger: not a ledger of this version: {error}") from error
