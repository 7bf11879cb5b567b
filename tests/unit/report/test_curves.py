"""The numbers behind the figures, against slow derivations of their own."""

import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from e3mega.plan.paths import RunPaths
from e3mega.report.accuracy import Point, mean_points
from e3mega.report.canvas import report_style, smooth
from e3mega.report.drawing import Table, curve_of, series_of
from e3mega.report.headline import changes_of
from e3mega.report.lines import RL_STEP, rl_steps
from e3mega.report.runs import Cohort, Run, cohorts_of, read_run
from e3mega.report.signs import draw_signs
from e3mega.report.training import draw_truncation
from tests.data.make_recorded_run import write_recorded_run


def test_smoothing_is_the_centred_mean_of_what_is_known() -> None:
    values = np.array([1.0, np.nan, 4.0, 2.0, 8.0, np.nan, np.nan, np.nan, np.nan, 5.0])
    expected = []
    for at in range(len(values)):
        known = [v for v in values[max(0, at - 1) : at + 2] if not math.isnan(v)]
        expected.append(statistics.mean(known) if known else math.nan)
    np.testing.assert_allclose(smooth(values, 3), expected)


def test_several_seeds_give_the_standard_error_between_them() -> None:
    curves = [[Point(64.0, value, 0.5)] for value in (0.2, 0.3, 0.7)]
    (point,) = mean_points(curves)
    assert point.accuracy == pytest.approx(0.4)
    assert point.stderr == pytest.approx(statistics.stdev([0.2, 0.3, 0.7]) / math.sqrt(3))


def test_budgets_that_a_seed_lacks_are_left_out() -> None:
    curves = [[Point(64.0, 0.2, 0.1), Point(128.0, 0.3, 0.1)], [Point(64.0, 0.4, 0.1)]]
    assert [point.budget for point in mean_points(curves)] == [64.0]


def test_a_single_run_keeps_its_own_error() -> None:
    assert mean_points([[Point(64.0, 0.2, 0.03)]]) == [Point(64.0, 0.2, 0.03)]


def _run(name: str, seed: int, steps: list[tuple[float, float]]) -> Run:
    events = tuple({"event": "step", "step": x, "loss": y} for x, y in steps)
    return Run(RunPaths(Path(name)), name, seed, {"step": events}, None, 0.0)


def test_a_cohort_spans_from_its_lowest_to_its_highest_run() -> None:
    first = _run("a", 1, [(1, 0.5), (2, 0.2), (3, math.nan)])
    second = _run("a", 2, [(1, 0.1), (2, 0.6)])

    def read(run: Run) -> tuple[np.ndarray, np.ndarray]:
        return series_of(run.of("step"), "step", "loss")

    curve = curve_of(Cohort("a", (first, second)), read)
    assert curve is not None
    np.testing.assert_allclose(curve.x, [1, 2])
    np.testing.assert_allclose(curve.mean, [0.3, 0.4])
    np.testing.assert_allclose(curve.low, [0.1, 0.2])
    np.testing.assert_allclose(curve.high, [0.5, 0.6])


def test_the_headline_states_the_evaluations_at_multiples_of_the_first_budget(
    recorded_run: Path,
) -> None:
    run = read_run(recorded_run)
    (cohort,) = cohorts_of([run])
    by_label = {e["label"]: e for e in run.of("evaluation") if e["slice"] == "hard"}
    base, end = by_label["base"], by_label["hard"]
    changes = changes_of(cohort, "hard")
    assert [(change.multiple, change.budget) for change in changes] == [(1, 64), (2, 128), (4, 256)]
    for change in changes:
        at = base["budgets"].index(change.budget)
        gain = end["accuracy"][at] - base["accuracy"][at]
        variance = end["stderr"][at] ** 2 + base["stderr"][at] ** 2
        assert change.gain == pytest.approx(gain)
        assert change.gain_stderr == pytest.approx(math.sqrt(variance))


def test_the_gain_of_seeds_has_the_error_of_their_gains(tmp_path: Path) -> None:
    dirs = [
        write_recorded_run(tmp_path / str(seed), name="a", seed=seed, with_rollouts=False)
        for seed in (1, 2, 3)
    ]
    runs = [read_run(path) for path in dirs]
    gains = [changes_of(cohorts_of([run])[0], "all")[1].gain for run in runs]
    (cohort,) = cohorts_of(runs)
    change = changes_of(cohort, "all")[1]
    assert change.gain == pytest.approx(statistics.mean(gains))
    assert change.gain_stderr == pytest.approx(statistics.stdev(gains) / math.sqrt(3))


def test_csv_quotes_text_and_keeps_unknown_numbers() -> None:
    table = Table(("run", "x"), (('a,"b"', 0.123456789), ("c", math.nan)))
    assert table.csv() == 'run,x\n"a,""b""",0.123457\nc,nan\n'


def test_the_sentences_on_signs_are_means_of_a_stages_first_and_last_fifth() -> None:
    steps = tuple(
        {
            **{"event": "step", "mode": "rl", "stage": "easy", "step": float(at)},
            **{"logit_grad_norm_positive": 0.02, "logit_grad_norm_negative": 0.03},
            "stop_after_failed_check": 0.5 - 0.04 * at,
            "unique_attempts_incorrect": math.nan if at < 2 else 2.0 + at,
            "repetition_frac": 0.0,
        }
        for at in range(10)
    )
    cohort = Cohort("a", (Run(RunPaths(Path("a")), "a", 3, {"step": steps}, None, 0.0),))
    with report_style():
        drawing = draw_signs([cohort])
    assert drawing is not None
    assert drawing.notes == (
        "a (seed 3), easy: negative samples pull 1.5 times as hard as positive ones; "
        "0.48 to 0.16 of failed checks end a trace, unknown to 10 different attempts in an "
        "incorrect completion, 0 to 0 of completions end in a cycle.",
    )


def test_answers_that_could_not_be_graded_are_summed_by_reason() -> None:
    steps = tuple(
        {
            **{"event": "step", "mode": "rl", "stage": "easy", "step": at, "truncated_frac": 0.1},
            "failures": failures,
        }
        for at, failures in enumerate(({"no_answer": 2}, {}, {"no_answer": 1, "time": 4}))
    )
    cohort = Cohort("a", (Run(RunPaths(Path("a")), "a", 3, {"step": steps}, None, 0.0),))
    with report_style():
        drawing = draw_truncation([cohort])
    assert drawing is not None
    assert drawing.notes == (
        "a, seed 3: rollouts trained on that could not be graded and earned nothing: "
        "no answer 3, time 4.",
    )


def test_warm_ups_of_different_lengths_do_not_shift_rl_steps() -> None:
    runs: list[Run] = []
    for seed, first in ((1, 100), (2, 130)):
        stages = (
            {"event": "stage_started", "stage": "warmup", "mode": "supervised", "version": 0},
            {"event": "stage_started", "stage": "easy", "mode": "rl", "version": first},
        )
        steps = tuple(
            {"event": "step", "mode": "rl", "step": first + at, "reward_mean": seed * at}
            for at in (1, 2)
        )
        events = {"stage_started": stages, "step": steps}
        runs.append(Run(RunPaths(Path("a")), "a", seed, events, None, 0.0))
    curve = curve_of(
        Cohort("a", tuple(runs)), lambda run: series_of(rl_steps(run), RL_STEP, "reward_mean")
    )
    assert curve is not None
    assert (curve.x.tolist(), curve.mean.tolist()) == ([1.0, 2.0], [1.5, 3.0])
