"""A sweep is one spec a point, with shared stages found by their fingerprints."""

from pathlib import Path

import pytest

from e3mega.cli import main
from e3mega.errors import SpecError
from e3mega.plan.compile import checked_plan
from e3mega.plan.planfile import Role
from e3mega.plan.sweep import Axis, expand_sweep
from e3mega.spec.resolve import find_spec, resolve_spec

BASE = find_spec("quickstart-small")
SEEDS = Axis("seed", (1, 2), is_fragments=False)
WEIGHTS = Axis("loss.sign.negative.weight", (0.0, 1.0), is_fragments=False)


def test_axes_are_multiplied_into_named_specs(tmp_path: Path) -> None:
    expanded = expand_sweep(BASE, (SEEDS, WEIGHTS), tmp_path)
    runs = [run for run in expanded if not run.is_prefix]
    points = [(run.plan.seed, run.plan.stages[1].loss.sign.negative.weight) for run in runs]
    assert points == [(1, 0.0), (1, 1.0), (2, 0.0), (2, 1.0)]
    names = [run.plan.name for run in runs]
    assert len(set(names)) == 4
    assert [run.path for run in runs] == [tmp_path / f"{name}.yaml" for name in names]
    for run in runs:
        assert checked_plan(resolve_spec(run.path)) == run.plan


def test_what_runs_share_is_a_run_of_its_own(tmp_path: Path) -> None:
    runs = expand_sweep(BASE, (SEEDS, WEIGHTS), tmp_path)
    prefixes = [run for run in runs if run.is_prefix]
    assert [run.plan.name for run in prefixes] == [f"{BASE.stem}-shared-{n}" for n in (1, 2)]
    assert [run.differs for run in prefixes] == [("1", "any"), ("2", "any")]
    for run in prefixes:
        assert [stage.name for stage in run.plan.stages] == ["warmup"]
        assert checked_plan(resolve_spec(run.path)) == run.plan
        assert not [job for job in run.plan.jobs if job.role is Role.GENERATION]
    others = [run for run in runs if not run.is_prefix]
    assert [(run.source, run.num_shared_stages) for run in others] == [
        (f"{BASE.stem}-shared-{n}", 1) for n in (1, 1, 2, 2)
    ]
    whole, warmup = others[0].plan.estimates.total_s, others[0].plan.estimates.budgets[0].total_s
    assert prefixes[0].own_seconds == pytest.approx(warmup)
    assert others[0].own_seconds == pytest.approx(whole - warmup)


def test_what_is_shared_comes_in_levels(tmp_path: Path) -> None:
    easy = Axis("curriculum.stages.easy.exit.steps", (2, 3), is_fragments=False)
    hard = Axis("curriculum.stages.hard.exit.steps", (1, 2), is_fragments=False)
    runs = expand_sweep(BASE, (easy, hard), tmp_path)
    sources = {run.plan.name: run.source for run in runs}
    names = [run.plan.name for run in runs]
    for name, source in sources.items():
        assert not source or names.index(source) < names.index(name)
    prefixes = {run.plan.name: len(run.plan.stages) for run in runs if run.is_prefix}
    assert sorted(prefixes.values()) == [1, 2, 2]
    (root,) = [name for name, count in prefixes.items() if count == 1]
    assert [sources[name] for name, count in prefixes.items() if count == 2] == [root, root]
    assert {prefixes[run.source] for run in runs if not run.is_prefix} == {2}


def test_a_run_that_is_what_others_share_is_their_source(tmp_path: Path) -> None:
    axis = Axis("logging.num_report_rollouts", (4, 8), is_fragments=False)
    first, second = expand_sweep(BASE, (axis,), tmp_path)
    assert (first.source, second.source) == ("", first.plan.name)
    assert second.num_shared_stages == 3
    assert second.own_seconds == 0.0


def test_fragments_replace_each_other(tmp_path: Path) -> None:
    axis = Axis("curriculum.stages.hard.budget", ("budget/coupled-128", "budget/fixed-64"), True)
    shared, coupled, fixed = expand_sweep(BASE, (axis,), tmp_path)
    assert [len(run.plan.stages[2].budgets) for run in (coupled, fixed)] == [2, 1]
    assert (coupled.differs, fixed.differs) == (("coupled-128",), ("fixed-64",))
    assert [stage.name for stage in shared.plan.stages] == ["warmup", "easy"]
    assert coupled.num_shared_stages == fixed.num_shared_stages == 2


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
    assert "warmup of 1" in text and "warmup of 2" in text
    assert "4 runs, and 2 of what they share: " in text and "with shared stages run once" in text
    assert text.count("e3mega run ") == 6 and text.count(" --from ") == 4
    assert text.count("e3mega report ") == 1


@pytest.mark.parametrize("axis", ["seed", "seed=1", "seed=[1", "=[1]"])
def test_a_garbled_axis_is_a_problem(axis: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "quickstart-small", "--axis", axis]) == 2
    assert "KEY=[point, ...]" in capsys.readouterr().err
