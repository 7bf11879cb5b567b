"""The paper's small models behave as its text and its Fig. 7 say."""

from pathlib import Path

import numpy as np
import pytest

from e3mega.cli import main
from e3mega.theory.bigram import BigramSettings, simulate
from e3mega.theory.entropy_theorem import alignment, check, entropy, step_down
from e3mega.theory.guessing import failure_rate, simulated_failure_rate
from e3mega.theory.paper_curves import NEGATIVE


def test_the_bigram_world_jumps_with_negative_gradients_and_stays_flat_without() -> None:
    settings = BigramSettings(num_updates=4000)
    curves = simulate(settings)
    # Starts where the figure starts.
    assert curves.stop[0] == pytest.approx(NEGATIVE["stop"][0][1], abs=0.004)
    assert curves.entropy[0] == pytest.approx(NEGATIVE["entropy"][0][1], abs=0.02)
    # Nothing for 2000 updates, then a jump.
    assert curves.reward[1:20].max() < 0.06
    assert curves.reward[-3:].min() > 0.9
    half = curves.updates[1:][curves.reward[1:] > 0.5][0]
    assert 2400 <= half <= 3300, "the figure's is at 2900"
    # Traces grow to several times their length, then fall.
    longest = int(curves.length[1:].argmax()) + 1
    assert curves.length[longest] > 3 * curves.length[1]
    assert curves.updates[longest] < half + 300
    assert curves.length[-1] < curves.length[longest] / 3
    # The probability of stopping falls, the entropy rises and then falls below its start.
    assert curves.stop[10] < 0.7 * curves.stop[0]
    assert curves.stop[-1] < 0.005
    assert curves.entropy.max() > curves.entropy[0] + 0.1
    assert curves.entropy[-1] < curves.entropy[0] - 0.2
    flat = simulate(BigramSettings(num_updates=1500, has_negative_gradients=False))
    assert flat.reward[1:].max() < 0.02
    assert np.ptp(flat.stop) < 0.002 and np.ptp(flat.entropy) < 0.01
    assert flat.length[1:].max() < 22


def test_the_alignment_of_a_distribution_worked_by_hand() -> None:
    # pi = 1/2, 1/4, 1/4: H = 1.5 ln 2, v = (ln2/4, -ln2/8, -ln2/8), sum pi v = ln2/16.
    logits = np.log([[0.5, 0.25, 0.25]])
    ln2 = np.log(2.0)
    np.testing.assert_allclose(alignment(logits)[0], ln2 * np.array([3, -3, -3]) / 16)
    change = (entropy(step_down(logits, np.array([0]), 1e-6)) - entropy(logits)) / 1e-6
    np.testing.assert_allclose(change, 3 * ln2 / 16, rtol=1e-4)


def test_the_bound_that_holds_holds_and_the_printed_one_shrinks() -> None:
    checks = [check(size, num_distributions=3000, seed=3) for size in (5, 20, 100)]
    for found in checks:
        assert found.max_first_order_error < 1e-4
        assert found.num_falls_at_the_mode == 0
        assert found.min_excess_probability >= -1e-12
        assert found.num_in_regime > 500
        assert found.num_below_bound == 0
    assert checks[2].printed_constant < checks[0].printed_constant / 10


def test_guesses_fail_as_p_to_the_k() -> None:
    for p, k in ((0.5, 3), (0.9, 10)):
        share, error = simulated_failure_rate(p, k, num_traces=50_000, seed=2)
        assert abs(share - failure_rate(p, k)) < 4 * error


def test_the_command_draws_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "theory.png"
    assert main(["theory", "--output", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    text = capsys.readouterr().out
    assert "with negative gradients: reward 0.00 to 0.9" in text
    assert "0 times of" in text
