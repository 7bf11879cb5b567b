"""Sums of the ledger."""

import pytest

from e3mega.errors import RecordError
from e3mega.rollout.ledger import Amount, DiscardReason, Ledger, read_ledger


def full_ledger() -> Ledger:
    """Two groups trained on, one measured, one dropped, one lost and drawn again."""
    return (
        Ledger()
        .issue(4)
        .redraw(1)
        .answer(4, Amount(32, 1600), num_truncated=3)
        .reuse(1)
        .train(Amount(8, 400), lag=0)
        .train(Amount(8, 400), lag=1)
        .evaluate(Amount(8, 400))
        .discard(Amount(8, 400), DiscardReason.STALE)
        .train_supervised(Amount(48, 2000))
    )


def test_a_drained_ledger_adds_up() -> None:
    ledger = full_ledger()
    ledger.check(is_drained=True)
    assert (ledger.prompts_issued, ledger.prompts_lost, ledger.prompts_redrawn) == (5, 1, 1)
    assert ledger.generated == Amount(32, 1600)
    assert ledger.trained == Amount(16, 800)
    assert ledger.batches_by_lag == {0: 1, 1: 1}
    assert (ledger.in_flight, ledger.pending) == (0, Amount())


def test_what_is_under_way_is_allowed_until_the_end() -> None:
    ledger = full_ledger().issue(2).answer(1, Amount(8, 100), num_truncated=0)
    assert (ledger.in_flight, ledger.pending) == (1, Amount(8, 100))
    ledger.check(is_drained=False)
    with pytest.raises(RecordError, match="1 prompts in flight"):
        ledger.check(is_drained=True)


@pytest.mark.parametrize(
    "ledger",
    [
        full_ledger().train(Amount(8, 400), lag=0),
        full_ledger().evaluate(Amount(0, 1)),
        full_ledger().answer(1, Amount(), num_truncated=0),
        full_ledger().answer(0, Amount(), num_truncated=30),
    ],
)
def test_counting_something_twice_is_found(ledger: Ledger) -> None:
    with pytest.raises(RecordError, match="ledger"):
        ledger.check(is_drained=False)


def test_a_ledger_survives_its_json() -> None:
    assert read_ledger(full_ledger().to_json()) == full_ledger()
    with pytest.raises(RecordError):
        read_ledger('{"prompts_issued": "many"}')
