"""Sums of the ledger."""

import pytest

from e3mega.curriculum.options import TokenCaps
from e3mega.errors import E3Error, RecordError
from e3mega.rollout.ledger import Amount, DiscardReason, Intent, Ledger, check_caps, read_ledger


def full_ledger() -> Ledger:
    """Two groups trained on, one measured, one dropped, one lost and drawn again."""
    return (
        Ledger()
        .issue(4)
        .redraw(1)
        .answer(4, Amount(32, 1600), truncated=Amount(3, 300))
        .reuse(1)
        .train(Amount(8, 400), lag=0)
        .train(Amount(8, 400), lag=1)
        .evaluate(Amount(8, 400))
        .discard(Amount(8, 400), DiscardReason.FLAT)
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
    ledger = full_ledger().issue(2).answer(1, Amount(8, 100), truncated=Amount())
    assert (ledger.in_flight, ledger.pending) == (1, Amount(8, 100))
    ledger.check(is_drained=False)
    with pytest.raises(RecordError, match="1 prompts in flight"):
        ledger.check(is_drained=True)


@pytest.mark.parametrize(
    "ledger",
    [
        full_ledger().train(Amount(8, 400), lag=0),
        full_ledger().evaluate(Amount(0, 1)),
        full_ledger().answer(1, Amount(), truncated=Amount()),
        full_ledger().answer(0, Amount(), truncated=Amount(40, 10)),
    ],
)
def test_counting_something_twice_is_found(ledger: Ledger) -> None:
    with pytest.raises(RecordError, match="ledger"):
        ledger.check(is_drained=False)


def test_a_ledger_survives_its_json() -> None:
    assert read_ledger(full_ledger().to_json()) == full_ledger()
    with pytest.raises(RecordError):
        read_ledger('{"prompts_issued": "many"}')


def test_the_ledger_of_a_run_is_the_sum_of_its_stages() -> None:
    later = (
        Ledger()
        .issue(1)
        .answer(1, Amount(8, 90), truncated=Amount(2, 40))
        .train(Amount(4, 50), lag=1)
        .discard(Amount(4, 40), DiscardReason.STAGE_ENDED)
    )
    total = full_ledger() + later
    total.check(is_drained=True)
    assert total.generated == Amount(40, 1690)
    assert total.truncated == Amount(5, 340)
    assert total.discarded == {
        DiscardReason.FLAT: Amount(8, 400),
        DiscardReason.STAGE_ENDED: Amount(4, 40),
    }
    assert total.batches_by_lag == {0: 1, 1: 2}
    assert sum((full_ledger(), later), Ledger()) == total


def test_work_that_could_pass_a_cap_is_refused_before_it_begins() -> None:
    caps = TokenCaps(max_generated_tokens=2000, max_trained_tokens=2900)
    check_caps(full_ledger(), caps, Intent(generated=400, trained=100), whose="caps")
    with pytest.raises(E3Error, match=r"caps.max_generated_tokens: 1600 tokens .* take 401"):
        check_caps(full_ledger(), caps, Intent(generated=401), whose="caps")
    with pytest.raises(E3Error, match="max_trained_tokens: 2800 tokens"):
        check_caps(full_ledger(), caps, Intent(trained=101), whose="caps")
    check_caps(full_ledger(), TokenCaps(max_trained_tokens=1), Intent(generated=5), whose="caps")
