"""A dry run shows the plan, the ranks and the script, and leaves nothing."""

from importlib.util import find_spec as find_module
from pathlib import Path

import pytest

from e3mega.cli import main
from e3mega.launch.experiment import Launch, Order, render
from e3mega.launch.profile import read_profile
from e3mega.plan.compile import checked_plan
from e3mega.run.attempts import Attempt
from e3mega.run.node import why_not_continued
from e3mega.spec.resolve import find_spec, resolve_spec

needs_nemo_run = pytest.mark.skipif(
    find_module("nemo_run") is None,
    reason="nemo-run is not installed: make setup EXTRAS=...,cluster",
)

SLURM = """\
kind: slurm
executor: {account: lab, partition: gpu, time: "01:00:00"}
env: {NCCL_DEBUG: WARN}
pass_env: [WANDB_API_KEY]
setup: module load something
cluster: {learner_nodes: 2, leave_deadline_s: 120}
chain: {kind: dependent, jobs: 2}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SLURM)
    return path


def launch(site: Path, run_dir: Path, *more: str) -> int:
    return main(["launch", "quickstart-small", "--on", str(site), "--run-dir", str(run_dir), *more])


@needs_nemo_run
def test_a_dry_run_shows_everything_and_leaves_nothing(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    run_dir = tmp_path / "shared" / "run"
    assert launch(site, run_dir) == 0
    shown = capsys.readouterr().out
    assert not run_dir.exists()
    assert "very-secret" not in shown
    for words in (
        "rank 0: node 0, tp 0",
        "rank 1: node 1, tp 1",
        "#SBATCH --nodes=2",
        "#SBATCH --partition=gpu",
        "#SBATCH --signal=USR1@120",
        "export NCCL_DEBUG=WARN",
        "module load something",
        f"-m e3mega.run.node {run_dir} --launch quickstart-small-",
        "--first-node 0 --pass-env WANDB_API_KEY\n",
        "\n== run-1: the same with --continues, after run-0, however that ends\n",
    ):
        assert words in shown, words
    assert shown.count("#!/bin/bash") == 1, "the script of one job stands for the chain"


@needs_nemo_run
def test_the_jobs_of_a_chain_differ_in_what_a_dry_run_says(site: Path, tmp_path: Path) -> None:
    plan = checked_plan(resolve_spec(find_spec("quickstart-small")))
    order = Order("a", (Launch(plan, tmp_path / "run", "a-17"),), tmp_path / "home")
    first, second = render(order, read_profile(site))
    assert (first.behind, second.behind) == (None, "run-0")
    # nemo-run hands the dependency to sbatch itself.
    assert second.text.count(" --continues\n") == 1 and "--continues" not in first.text
    plain = second.text.replace(" --continues\n", "\n")
    for own in ("run-1", "a-17-1"):
        assert own in plain
        plain = plain.replace(own, f"{own[:-1]}0")
    assert plain == first.text


@needs_nemo_run
def test_a_job_that_is_queued_again_says_after_what(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.write_text(SLURM.replace("kind: dependent", "kind: requeue"))
    assert launch(site, tmp_path / "run") == 0
    shown = capsys.readouterr().out
    own = ("module load something\nagain() {", "trap again EXIT", "$status -eq 75 ]")
    # nemo-run's own would queue it again after any failure.
    for words in (*own, "sbatch --requeue", "TORCHX_MAX_RETRIES=0"):
        assert words in shown, words
    assert launch(site, tmp_path / "run", "--set", "cluster.generation_nodes=1") == 1
    assert "does not start a heterogeneous job that was queued again" in capsys.readouterr().err


@needs_nemo_run
def test_nodes_of_two_sorts_become_one_heterogeneous_job(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ("cluster.generation_nodes=1", "cluster.has_loop_node=true")
    more = [word for each in sets for word in ("--set", each)]
    assert launch(site, tmp_path / "run", *more) == 0
    shown = capsys.readouterr().out
    assert shown.count("#SBATCH hetjob") == 2, "three groups"
    for group, first_node in ((0, 0), (1, 1), (2, 3)):
        assert f"--het-group={group}" in shown
        assert f"--first-node {first_node} " in shown


@needs_nemo_run
def test_a_sweep_is_shown_with_what_waits_for_what(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ("--fragments", "loss=[loss/grpo, loss/grpo_mask]", "--out", str(tmp_path / "out"))
    assert main(["sweep", "quickstart-small", *axes, "--on", str(site)]) == 0
    shown = capsys.readouterr().out
    shared = "quickstart-small-shared-1"
    for name in ("quickstart-small-loss-grpo", "quickstart-small-loss-grpo_mask"):
        assert f"{name} waits for {shared} and begins behind it" in shown
        assert f"== {name}-1: the same with --continues, after {name}-0" in shown
    assert not any(path.is_dir() for path in (tmp_path / "out").iterdir())


def test_a_sweep_is_not_launched_where_no_job_waits_for_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ("--axis", "seed=[1, 2]", "--out", str(tmp_path / "out"))
    assert main(["sweep", "quickstart-small", *axes, "--on", "local"]) == 1
    assert "kind local starts no job after another; give --run" in capsys.readouterr().err


@needs_nemo_run
def test_a_local_profile_cannot_carry_two_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "here.yaml"
    path.write_text("kind: local\n")
    assert launch(path, tmp_path / "run", "--set", "cluster.learner_nodes=2") == 1
    assert "kind local has one node, the plan has 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reason", "status", "words"),
    [
        ("finished", 0, "the run is finished"),
        ("left at a checkpoint: its time on the machine ends", 75, ""),
        ("left at a checkpoint: e3mega stop asked for it", 75, "the run was stopped"),
        ("stopped by SIGTERM", 143, ""),
        ("killed before it could write a reason", None, ""),
        ("job learner exited with status 1: loss is nan", 1, "not continued, since the run failed"),
    ],
)
def test_a_chain_goes_on_after_what_a_machine_did_but_not_after_a_failure(
    reason: str, status: int | None, words: str
) -> None:
    why, _ = why_not_continued(Attempt(0, 1.0, 2.0, reason, status))
    assert why.startswith(words) and bool(why) == bool(words)
