"""A sweep is one spec a point, with shared stages found by their fingerprints."""

from pathlib import Path

import pytest

from e3mega.cli import main
from e3mega.errors import SpecError
from e3mega.plan.compile import checked_plan
from e3mega.plan.sweep import Axis, expand_sweep
from e3mega.spec.resolve import find_spec, resolve_spec

BASE = find_spec("quickstart-small")
SEEDS = Axis("seed", (1, 2), is_fragments=False)
WEIGHTS = Axis("loss.sign.negative.weight", (0.0, 1.0), is_fragments=False)


def test_axes_are_multiplied_into_named_specs(tmp_path: Path) -> None:
    runs = expand_sweep(BASE, (SEEDS, WEIGHTS), tmp_path)
    points = [(run.plan.seed, run.plan.stages[1].loss.sign.negative.weight) for run in runs]
    assert points == [(1, 0.0), (1, 1.0), (2, 0.0), (2, 1.0)]
    names = [run.plan.name for run in runs]
    assert len(set(names)) == 4
    assert [run.path for run in runs] == [tmp_path / f"{name}.yaml" for name in names]
    for run in runs:
        assert checked_plan(resolve_spec(run.path)) == run.plan


def test_the_warm_up_is_shared_within_a_seed(tmp_path: Path) -> None:
    runs = expand_sweep(BASE, (SEEDS, WEIGHTS), tmp_path)
    assert [run.num_shared_stages for run in runs] == [0, 1, 0, 1]
    assert [run.starts_from for run in runs] == ["", runs[0].plan.name, "", runs[2].plan.name]
    whole, rest = runs[0].own_seconds, runs[1].own_seconds
    warmup = runs[0].plan.estimates.budgets[0].total_s
    assert whole == pytest.approx(runs[0].plan.estimates.total_s)
    assert rest == pytest.approx(whole - warmup)


def test_fragments_replace_each_other(tmp_path: Path) -> None:
    axis = Axis("curriculum.stages.hard.budget", ("budget/coupled-128", "budget/fixed-64"), True)
    coupled, fixed = expand_sweep(BASE, (axis,), tmp_path)
    assert [len(run.plan.stages[2].budgets) for run in (coupled, fixed)] == [2, 1]
    assert (coupled.differs, fixed.differs) == (("coupled-128",), ("fixed-64",))
    assert fixed.num_shared_stages == 2


def test_a_base_outside_the_library_is_found_from_the_written_specs(tmp_path: Path) -> None:
    base = tmp_path / "mine" / "base.yaml"
    base.parent.mkdir()
    base.write_text("include: [runs/quickstart-small]\nname: base\n", encoding="utf-8")
    runs = expand_sweep(base, (SEEDS,), tmp_path / "out")
    assert [run.plan.name for run in runs] == ["base-seed-1", "base-seed-2"]


def test_problems_of_all_points_come_together(tmp_path: Path) -> None:
    axis = Axis("seed", (-1, 1, -2), is_fragments=False)
    with pytest.raises(SpecError) as caught:
        expand_sweep(BASE, (axis,), tmp_path)
    assert [problem.got for problem in caught.value.problems] == ["-1", "-2"]


def test_the_command_prints_what_differs_and_what_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", "quickstart-small", "--axis", "seed=[1, 2]", "--out", str(tmp_path)]
    assert main([*arguments, "--axis", "loss.sign.negative.weight=[0.2, 0.3]"]) == 0
    text = capsys.readouterr().out
    assert "warmup of 1" in text and "warmup of 3" in text
    assert "4 runs: " in text and "with shared stages run once" in text
    assert text.count("e3mega run ") == 4 and text.count("e3mega report ") == 1


@pytest.mark.parametrize("axis", ["seed", "seed=1", "seed=[1", "=[1]"])
def test_a_garbled_axis_is_a_problem(axis: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "quickstart-small", "--axis", axis]) == 2
    assert "KEY=[point, ...]" in capsys.readouterr().err
