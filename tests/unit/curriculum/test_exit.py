"""When a stage ends."""

import pytest

from e3mega.curriculum.exit import (
    ExitReason,
    StagePast,
    exit_reason,
    is_measurement_due,
    is_plateau,
    is_recognition_enough,
    max_steps,
)
from e3mega.curriculum.options import (
    Exit,
    PlateauExit,
    RecognitionExit,
    StepsExit,
    TargetExit,
    TokenKind,
    TokensExit,
)

STEPS = StepsExit(kind="steps", steps=3)
RECOGNITION = RecognitionExit(kind="recognition", max_steps=130, min_steps=60, every_steps=50)
PLATEAU = PlateauExit(kind="plateau", every_steps=10, patience=2, min_gain=0.01, max_steps=100)
TARGET = TargetExit(kind="target", at_least=0.5, every_steps=10, max_steps=25)
TOKENS = TokensExit(kind="tokens", of=TokenKind.TRAINED, num_tokens=1000, max_steps=9)


def past(
    step: int,
    *,
    signals: tuple[float, ...] = (),
    trained: int = 0,
    generated: int = 0,
    is_enough: bool = False,
) -> StagePast:
    tokens = {TokenKind.TRAINED: trained, TokenKind.GENERATED: generated}
    return StagePast(step, tokens, signals, is_enough)


def test_a_stage_of_steps_ends_after_them() -> None:
    reasons = [exit_reason(STEPS, past(step)) for step in range(5)]
    assert reasons == [None, None, None, ExitReason.STEPS, ExitReason.STEPS]
    assert not any(is_measurement_due(STEPS, step) for step in range(5))
    assert (max_steps(STEPS), max_steps(RECOGNITION)) == (3, 130)


def test_recognition_is_measured_from_the_minimum_on_and_at_the_cap() -> None:
    due = [step for step in range(1, 131) if is_measurement_due(RECOGNITION, step)]
    assert due == [100, 130]


def test_a_warm_up_ends_at_recognition_or_at_its_cap() -> None:
    assert exit_reason(RECOGNITION, past(50, is_enough=True)) is None
    assert exit_reason(RECOGNITION, past(100, is_enough=True)) is ExitReason.RECOGNITION
    assert exit_reason(RECOGNITION, past(100)) is None
    assert exit_reason(RECOGNITION, past(130)) is ExitReason.CAP


def test_both_rates_must_be_good_enough() -> None:
    assert is_recognition_enough(0.95, 0.05, RECOGNITION)
    assert not is_recognition_enough(0.949, 0.05, RECOGNITION)
    assert not is_recognition_enough(0.95, 0.051, RECOGNITION)


@pytest.mark.parametrize(
    ("signals", "is_flat"),
    [
        ((), False),
        ((0.3, 0.3), False),
        ((0.3, 0.3, 0.31), True),
        ((0.3, 0.305, 0.31, 0.315), True),
        ((0.3, 0.2, 0.32, 0.32), False),
        ((0.3, 0.2, 0.32, 0.32, 0.33), True),
    ],
)
def test_a_plateau_is_as_many_measurements_as_its_patience_without_a_rise(
    signals: tuple[float, ...], is_flat: bool
) -> None:
    """A slow creep below min_gain a measurement is a plateau, too."""
    assert is_plateau(signals, PLATEAU) is is_flat
    expected = ExitReason.PLATEAU if is_flat else None
    assert exit_reason(PLATEAU, past(50, signals=signals)) is expected


def test_a_target_is_met_by_the_last_measurement_alone() -> None:
    assert exit_reason(TARGET, past(10, signals=(0.49,))) is None
    assert exit_reason(TARGET, past(20, signals=(0.6, 0.4))) is None
    assert exit_reason(TARGET, past(20, signals=(0.4, 0.5))) is ExitReason.TARGET
    assert exit_reason(TARGET, past(25, signals=(0.4, 0.4, 0.4))) is ExitReason.CAP
    assert [step for step in range(26) if is_measurement_due(TARGET, step)] == [10, 20, 25]


def test_tokens_of_the_named_kind_count() -> None:
    assert exit_reason(TOKENS, past(3, trained=999, generated=5000)) is None
    assert exit_reason(TOKENS, past(3, trained=1000)) is ExitReason.TOKENS
    generated = TOKENS.model_copy(update={"of": TokenKind.GENERATED})
    assert exit_reason(generated, past(3, trained=5000)) is None
    assert exit_reason(generated, past(3, generated=1000)) is ExitReason.TOKENS


@pytest.mark.parametrize("rule", [RECOGNITION, PLATEAU, TARGET, TOKENS])
def test_every_rule_has_a_cap(rule: Exit) -> None:
    assert exit_reason(rule, past(max_steps(rule))) is ExitReason.CAP
    assert exit_reason(rule, past(max_steps(rule) - 1)) is None
