"""When a stage ends."""

from e3mega.curriculum.exit import (
    ExitReason,
    exit_reason,
    is_measurement_due,
    is_recognition_enough,
    max_steps,
)
from e3mega.curriculum.options import RecognitionExit, StepsExit

STEPS = StepsExit(kind="steps", steps=3)
RECOGNITION = RecognitionExit(kind="recognition", max_steps=130, min_steps=60, every_steps=50)


def test_a_stage_of_steps_ends_after_them() -> None:
    reasons = [exit_reason(STEPS, step, is_enough=False) for step in range(5)]
    assert reasons == [None, None, None, ExitReason.STEPS, ExitReason.STEPS]
    assert not any(is_measurement_due(STEPS, step) for step in range(5))
    assert (max_steps(STEPS), max_steps(RECOGNITION)) == (3, 130)


def test_recognition_is_measured_from_the_minimum_on_and_at_the_cap() -> None:
    due = [step for step in range(1, 131) if is_measurement_due(RECOGNITION, step)]
    assert due == [100, 130]


def test_a_warm_up_ends_at_recognition_or_at_its_cap() -> None:
    assert exit_reason(RECOGNITION, 50, is_enough=True) is None
    assert exit_reason(RECOGNITION, 100, is_enough=True) is ExitReason.RECOGNITION
    assert exit_reason(RECOGNITION, 100, is_enough=False) is None
    assert exit_reason(RECOGNITION, 130, is_enough=False) is ExitReason.CAP


def test_both_rates_must_be_good_enough() -> None:
    assert is_recognition_enough(0.95, 0.05, RECOGNITION)
    assert not is_recognition_enough(0.949, 0.05, RECOGNITION)
    assert not is_recognition_enough(0.95, 0.051, RECOGNITION)
