"""A difference names each change once with its origins, and says whether a run may continue."""

from pathlib import Path

import pytest

from e3mega.cli import main
from e3mega.spec.diff import Difference, difference, spec_side
from e3mega.spec.resolve import find_spec
from tests.spec_cases import resolved

RUN = "include: [runs/quickstart]\n"


def differences(tmp_path: Path, *sets: str) -> Difference:
    left, right = resolved(tmp_path, RUN), resolved(tmp_path, RUN, sets=sets)
    return difference(spec_side(left), spec_side(right))


VERDICTS = {
    "seed=2": ("needs a new run", 0),
    "model.norm_eps=1e-5": ("needs a new run", 0),
    "layout.learner.tp=1": ("needs a new run", 0),
    "name=other": ("may continue", 3),
    "logging.num_report_rollouts=3": ("may continue", 3),
    "checkpoint.every_rounds=3": ("may continue", 3),
    "cluster.max_restarts=3": ("may continue", 3),
    "estimates.completion_frac=0.3": ("may continue", 3),
    "loss.sign.negative.weight=0.5": ("new from stage easy on", 1),
    "curriculum.stages.hard.exit.steps=80": ("new from stage hard on", 2),
    "curriculum.stages.warmup.exit.max_steps=2000": ("needs a new run", 0),
    "layout.generation.threads_per_replica=1": ("new from stage easy on", 1),
    "curriculum.stages.warmup.generation.temperature=0.5": ("may continue", 3),
}


@pytest.mark.parametrize("change", VERDICTS)
def test_a_change_is_named_once_with_what_it_asks_for(tmp_path: Path, change: str) -> None:
    verdict, num_shared = VERDICTS[change]
    found = differences(tmp_path, change)
    key, value = change.split("=")
    (only,) = found.changes
    assert (only.key, only.verdict) == (key, verdict)
    assert only.right == value or float(only.right) == float(value)
    assert only.right_place == f"--set {change}"
    assert only.left_place != only.right_place
    assert len(found.shared_stages) == num_shared
    assert ("may continue" in found.conclusion) is (num_shared == 3)


def test_a_change_of_kind_shows_what_only_one_side_has(tmp_path: Path) -> None:
    found = differences(tmp_path, "curriculum.stages.hard.budget={kind: fixed, tokens: 64}")
    changes = {change.key: (change.left, change.right) for change in found.changes}
    home = "curriculum.stages.hard.budget"
    assert changes[f"{home}.kind"] == ("coupled", "fixed")
    assert changes[f"{home}.candidates"] == ("[64, 128]", "not there")
    assert changes[f"{home}.tokens"] == ("not there", "64")


def test_equal_specs_have_no_difference(tmp_path: Path) -> None:
    assert differences(tmp_path, "seed=1").conclusion == "no difference"


def test_runs_are_compared_by_the_specs_they_were_started_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        assert main(["resolve", "quickstart", "--set", f"seed={seed}"]) == 0
        folder = tmp_path / name
        folder.mkdir()
        (folder / "resolved.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["diff", str(tmp_path / "one"), str(tmp_path / "two" / "plan.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seed: needs a new run"
    assert lines[1].startswith("  - 1  # ") and lines[2].startswith("  + 2  # ")
    assert lines[-1] == "needs a new run from its first stage on"


def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, *words: str) -> str:
    """A bare plan: what ``e3mega plan --json`` prints, in a file of any name."""
    assert main(["plan", "quickstart", "--json", *words]) == 0
    path = tmp_path / name
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return str(path)


def test_a_bare_plan_is_compared_with_plans_and_specs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # By its file: the bare name would be a run of that name, where the checkout has one.
    spec = str(find_spec("quickstart"))
    plain = planned(tmp_path, capsys, "plain.json")
    other = planned(tmp_path, capsys, "other.json", "--set", "loss.sign.negative.weight=0.5")
    assert main(["diff", spec, plain]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["diff", plain, other]) == 0
    from_plan = capsys.readouterr().out.splitlines()
    assert main(["diff", spec, other]) == 0
    from_spec = capsys.readouterr().out.splitlines()
    keys = [line for line in from_plan if line.startswith("curriculum")]
    assert keys == [
        f"curriculum.stages.{stage}.loss.sign.negative.weight: new from stage {stage} on"
        for stage in ("easy", "hard")
    ]
    assert "  - 1.0  # plan" in from_plan and "  + 0.5  # plan" in from_plan
    assert [line for line in from_spec if "- 1.0" not in line] == [
        line for line in from_plan if "- 1.0" not in line
    ]
    assert "  - 1.0  # default" in from_spec or any("yaml" in line for line in from_spec)
    assert from_plan[-1] == from_spec[-1]
    assert "shared stages: warmup" in from_plan[-1]


def test_a_plan_in_a_folder_without_its_spec_is_read_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(tmp_path, capsys, "plan.json", "--set", "layout.learner.tp=1")
    assert main(["diff", str(find_spec("quickstart")), str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "layout.learner.tp: needs a new run"
    assert len([line for line in lines if ".tp:" in line]) == 1, "stages only repeat it"
