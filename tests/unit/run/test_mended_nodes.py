"""Faults of nodes, chains and sweeps that somebody mends, with the real loop at work among fakes.

As in ``test_mended_faults``, the run ends with its words, and then goes on as if there were none.
"""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from e3mega.plan.planfile import Plan
from e3mega.report.ledger import WHOLE, ledger_rows
from e3mega.rollout.ledger import Ledger
from e3mega.run.begin_behind import note_source
from tests.unit.run.fake_runs import STARTS, attempts_of, finish, processes_of, wait_for
from tests.unit.run.fault_runs import Started, created, on_node_1
from tests.unit.run.halted_runs import (
    LEARNS,
    assert_nothing_is_lost,
    batches,
    events,
    halted,
    resume,
    training_plan,
)

pytestmark = pytest.mark.slow

LOOP = "tests.unit.run.training_job"
INTERFACE = """\
import pathlib, psutil
real, gone = psutil.net_if_addrs, pathlib.Path({gone!r})
psutil.net_if_addrs = lambda: real() if gone.exists() else real() | {{"ib0": real()["lo"]}}
"""
"""An interface that a file takes away, for every Python process that finds ``sitecustomize``."""
MEETS = """\
import socket
from datetime import timedelta
while sys.argv[2] == '0' and not (run_dir / 'halted').exists(): time.sleep(0.02)
host, port, is_first = sys.argv[3], int(sys.argv[4]), sys.argv[5] == 'learner'
if is_first and sys.argv[2] == '0':
    other = socket.socket()
    other.bind((host, port))
    other.listen()
from torch.distributed import TCPStore
store = TCPStore(host, port, 2, is_first, timedelta(seconds=120))
"""
"""The learner's ranks meet, as they do again at every other grid; in the first attempt another
program has taken the port since it was chosen."""


def launch(started: Started, name: str, *words: str, nodes: int = 2) -> list[tuple[int, list[str]]]:
    """Launch the run on its nodes and wait: status and lines of each."""
    commands = [started.node(node, "--launch", name, *words) for node in range(nodes)]
    lines = [finish(command) for command in commands]
    return [(c.returncode, each) for c, each in zip(commands, lines, strict=True)]


def killed(started: Started, plan: Plan) -> None:
    """A run on two nodes whose loop was killed in the middle of a round."""
    created(started, on_node_1(plan, "learner_1"))
    commands = [started.node(node) for node in range(plan.num_nodes)]
    wait_for((started.run_dir / "halted").exists)
    (loop,) = processes_of(started.run_dir, LOOP)
    loop.kill()
    for command in commands:
        finish(command)
    assert "job loop was killed by SIGKILL" in str(attempts_of(started.run_dir)[-1]["reason"])


def goes_on(started: Started, whole: Path, nodes: int = 2) -> None:
    for status, lines in launch(started, "again", nodes=nodes):
        assert status == 0, lines
    assert_nothing_is_lost(started.run_dir, whole)


def test_an_interface_that_is_gone_costs_nothing(
    started: Started, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    (tmp_path / "sitecustomize.py").write_text(INTERFACE.format(gone=str(gone)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    killed(started, training_plan(learner_nodes=2, interface="ib0"))
    gone.touch()
    (status, lines), (other, _) = launch(started, "without")
    assert status == 1 and other == 1
    assert "has no address on ib0; set cluster.interface to one of " in lines[-1], lines
    gone.unlink()
    goes_on(started, whole)


def test_a_node_that_sees_another_folder_costs_nothing(started: Started, whole: Path) -> None:
    """As where the shared folder is not mounted, and an old copy lies in its place."""
    killed(started, training_plan(learner_nodes=2, node_deadline_s=4.0))
    seen = Started(started.run_dir.parent / "other")
    shutil.copytree(started.run_dir, seen.run_dir)
    head, member = started.node(0, "--launch", "apart"), seen.node(1, "--launch", "apart")
    assert "node 1 of 2 did not come up within 4 s" in finish(head)[-1]
    assert "waited 4 s for node 0 to begin the run" in finish(member)[-1]
    goes_on(started, whole)


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_a_port_that_is_taken_while_a_run_goes_costs_nothing(
    started: Started, whole: Path, max_restarts: int
) -> None:
    """The run ends and is launched again, or begins again by itself: with another port."""
    plan = training_plan(learner_nodes=2, max_restarts=max_restarts)
    words = ("{run_dir}", "{attempt}", "{learner_host}", "{learner_port}")
    jobs = tuple(
        replace(job, argv=("{python}", "-c", STARTS + MEETS + LEARNS, *words, job.name))
        if job.name.startswith("learner")
        else job
        for job in plan.jobs
    )
    created(started, on_node_1(replace(plan, jobs=jobs), "learner_1"))
    (status, lines), _ = launch(started, "test")
    assert status == 1 - max_restarts, lines
    if not max_restarts:
        goes_on(started, whole)
    first, second = attempts_of(started.run_dir)
    port = json.loads(started.paths.learner_address(1).read_text())["port"]
    assert "EADDRINUSE" in str(first["reason"]) and str(port) not in str(first["reason"])
    assert second["exit"] == 0
    assert_nothing_is_lost(started.run_dir, whole)


def test_a_later_job_of_a_chain_after_a_failure_costs_nothing(
    started: Started, whole: Path
) -> None:
    """It leaves everything as it is."""
    killed(started, training_plan(learner_nodes=2))
    before = attempts_of(started.run_dir), events(started.run_dir, "step")
    for status, lines in launch(started, "later", "--continues"):
        assert status == 1
        assert "not continued, since the run failed: job loop was killed" in lines[-1], lines
    assert (attempts_of(started.run_dir), events(started.run_dir, "step")) == before
    goes_on(started, whole)


def test_a_run_of_a_sweep_behind_one_that_failed_costs_nothing(
    started: Started, whole: Path, tmp_path: Path
) -> None:
    """What the two have in common is trained once, whatever befell it."""
    folders = [tmp_path / name for name in ("source", "straight")]
    for folder in folders:
        folder.mkdir()
    source, straight = (Started(folder) for folder in folders)
    plan = training_plan("name=longer", "curriculum.stages.hard.exit.steps=2")
    try:
        struck = halted(source, training_plan())
        struck.kill(LOOP)
        finish(struck.command)
        created(started, plan)
        note_source(started.paths, source.run_dir)
        ((status, lines),) = launch(started, "early", nodes=1)
        assert status == 1
        assert "which is not finished: job loop was killed by SIGKILL" in lines[-1], lines
        code, lines = resume(source.run_dir)
        assert code == 0, lines
        assert_nothing_is_lost(source.run_dir, whole)
        to_its_end(started, started.node(0, "--launch", "again"))
        to_its_end(straight, straight.run(plan))
    finally:
        source.close()
        straight.close()
    wanted = batches(straight.run_dir)
    assert batches(started.run_dir) == {k: v for k, v in wanted.items() if "/hard/" in k} != {}
    steps = [[e["step"] for e in events(s.run_dir, "step")] for s in (started, straight)]
    assert steps[0] == steps[1]
    assert spent(started) == spent(straight)


def to_its_end(started: Started, command: subprocess.Popen[str]) -> None:
    """Take the run through its halt, if it comes to one."""
    wait_for(lambda: command.poll() is not None or (started.run_dir / "halted").exists())
    (started.run_dir / "halted").unlink(missing_ok=True)
    lines = finish(command)
    assert command.returncode == 0, lines


def spent(started: Started) -> Ledger:
    """What the run cost, and what it shares: each token once; groups read back cost nothing."""
    rows = dict(ledger_rows(events(started.run_dir, "ledger")[-1]))
    total = sum((each for name, each in rows.items() if "another run" in name), rows[WHOLE])
    return replace(total, prompts_reused=0)
