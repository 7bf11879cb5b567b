"""Faults of processes, nodes and machines on runs of small scripts: what is told, what goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e3mega.metrics import read_metrics
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import JobPlan, Plan, plan_to_json
from e3mega.rollout.whole_file import write_whole
from e3mega.run.board import Board, NodeReport
from e3mega.run.creation import create_folder
from e3mega.run.local import start_run
from e3mega.run.status import read_status, state_words
from e3mega.run.watchdog import Watchdog
from e3mega.spec.schema.cluster import ClusterOptions
from tests.unit.run.fake_runs import (
    LEAVES,
    STEADY,
    WAITS,
    attempts_of,
    command_of,
    fake_plan,
    finish,
    processes_of,
    start,
    wait_for,
)

TWO_SERVERS = {"generation_0": WAITS, "generation_1": WAITS, "learner": WAITS, "loop": WAITS}
DIES = "os.kill(os.getpid(), signal.SIGKILL)\n"
MARKS = (
    "mark = run_dir / f'ran_{sys.argv[3]}__{os.getpid()}'\nmark.touch()\n"
    "if sys.argv[3] == 'loop': (run_dir / 'metrics' / 'loop.jsonl').touch()\n"
)
"""Leaves a file for every process of a job, and the loop's metrics."""


def marks(run_dir: Path, job: str) -> int:
    return len(list(run_dir.glob(f"ran_{job}__*")))


def until(job: str, count: int) -> str:
    """Script: wait until so many processes of a job have run."""
    return f"while len(list(run_dir.glob('ran_{job}__*'))) < {count}: time.sleep(0.02)\n"


def planned(scripts: dict[str, str], **cluster: object) -> Plan:
    """A plan of scripts that leave marks; arguments are those of the section cluster."""
    plan = fake_plan({name: MARKS + script for name, script in scripts.items()})
    jobs = tuple(replace(job, argv=(*job.argv, job.name)) for job in plan.jobs)
    return replace(plan, jobs=jobs, cluster=ClusterOptions.model_validate(cluster))


class Started:
    """A command at work, ended with the test."""

    def __init__(self, folder: Path) -> None:
        self.run_dir = folder / "run"
        self.paths = RunPaths(self.run_dir)
        self._folder = folder
        self._commands: list[subprocess.Popen[str]] = []

    def run(self, plan: Plan) -> subprocess.Popen[str]:
        file = self._folder / "plan.json"
        file.write_text(plan_to_json(plan))
        self._commands.append(start(command_of(file, self.run_dir)))
        return self._commands[-1]

    def node(self, rank: int, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "e3mega.run.node", str(self.run_dir), "--launch", "test"]
        self._commands.append(
            subprocess.Popen(
                [*command, *words],
                env={**os.environ, "SLURM_PROCID": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return self._commands[-1]

    def close(self) -> None:
        for command in self._commands:
            command.kill()
        for process in processes_of(self.run_dir):
            process.kill()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    it = Started(tmp_path)
    yield it
    it.close()


def told(run_dir: Path, name: str) -> list[str]:
    """Reasons of the supervisor's events of a kind."""
    path = RunPaths(run_dir).metrics("supervisor")
    return [str(e.get("reason", "")) for e in read_metrics(path) if e["event"] == name]


def test_a_server_that_dies_is_started_again(started: Started) -> None:
    server = f"if len(list(run_dir.glob('ran_generation_0__*'))) == 1: {DIES}" + WAITS
    scripts = {"generation_0": server, "learner": LEAVES, "loop": until("generation_0", 2)}
    command = started.run(planned(scripts, max_restarts=1))
    finish(command)
    assert command.returncode == 0
    (reason,) = told(started.run_dir, "server_restarted")
    assert reason.startswith("job generation_0 was killed by SIGKILL")


def test_a_server_that_dies_too_often_ends_the_run(started: Started) -> None:
    command = started.run(planned({**STEADY, "generation_0": DIES}, max_restarts=2))
    assert "job generation_0 was killed by SIGKILL" in finish(command)[-1]
    assert marks(started.run_dir, "generation_0") == 3


def test_one_dead_server_of_two_does_not_stop_the_run(started: Started) -> None:
    scripts = {**TWO_SERVERS, "generation_1": DIES, "learner": LEAVES, "loop": "time.sleep(2)\n"}
    command = started.run(planned(scripts))
    finish(command)
    assert command.returncode == 0


def test_a_server_that_the_loop_gave_up_is_killed_and_started_again(started: Started) -> None:
    loop = (
        until("generation_1", 1) + "import json\n"
        "pid = int(next(run_dir.glob('ran_generation_1__*')).name.split('_')[-1])\n"
        "event = dict(time=1, event='server_lost', server=1, reason='no answer in 5 s', pid=pid)\n"
        "print(json.dumps(event), file=open(run_dir / 'metrics' / 'loop.jsonl', 'a'))\n"
        + until("generation_1", 2)
    )
    scripts = {**TWO_SERVERS, "learner": LEAVES, "loop": loop}
    command = started.run(planned(scripts, max_restarts=1))
    finish(command)
    assert command.returncode == 0
    (reason,) = told(started.run_dir, "server_restarted")
    assert reason == "job generation_1 was given up: no answer in 5 s"
    assert marks(started.run_dir, "generation_0") == 1


def test_a_killed_learner_begins_again_with_the_loop_and_the_same_servers(
    started: Started,
) -> None:
    learner = f"if sys.argv[2] == '0': {DIES}"
    loop = f"if sys.argv[2] == '0': {WAITS}"
    command = started.run(
        planned({"generation_0": WAITS, "learner": learner, "loop": loop}, max_restarts=1)
    )
    finish(command)
    assert command.returncode == 0
    counts = {job: marks(started.run_dir, job) for job in STEADY}
    assert counts == {"generation_0": 1, "learner": 2, "loop": 2}
    first, second = attempts_of(started.run_dir)
    assert (first["exit"], second["exit"]) == (1, 0)
    assert "job learner was killed by SIGKILL" in str(first["reason"])


def test_a_learner_that_says_why_it_left_is_not_started_again(started: Started) -> None:
    says = 'print(\'{"reason": "the gradient of layer 3 is nan"}\')\nsys.exit(1)\n'
    command = started.run(planned({**STEADY, "learner": says}, max_restarts=3))
    assert "the gradient of layer 3 is nan" in finish(command)[-1]
    assert marks(started.run_dir, "learner") == 1


def test_a_run_that_stands_still_ends_with_the_stacks_of_its_processes(started: Started) -> None:
    command = started.run(planned(STEADY, progress_deadline_s=4.0))
    lines = finish(command)
    assert "no progress for" in lines[-1]
    stacks = started.paths.log("stacks").read_text()
    # py-spy may not be allowed to look; then it says so for each process.
    assert stacks.count("=== ") >= 3
    assert "<module>" in stacks or "no stack" in stacks


def test_files_that_change_their_time_but_not_their_size_are_no_progress(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    write_whole(paths.metrics("loop"), b"{}\n")
    dog = Watchdog(paths, 0.2)
    assert dog.stalled_s() is None
    os.utime(paths.metrics("loop"), (1, 2_000_000_000))
    time.sleep(0.3)
    assert dog.stalled_s() is not None


def test_a_clock_that_jumps_makes_no_node_silent(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    board = Board(paths, "a")
    for beat, clock in enumerate((1e9, 3e9, 0.0)):
        board.publish(NodeReport("a", 1, "n1", 7, 0, beat, clock, ()))
        assert board.report(1) is not None
        assert board.silent_s(1) < 1.0
    board.publish(NodeReport("of another launch", 1, "n1", 7, 0, 9, 1e9, ()))
    assert board.report(1) is None


def test_a_request_to_stop_has_the_loop_leave_at_a_checkpoint(started: Started) -> None:
    loop = "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))\n(run_dir / 'up').touch()\n"
    learner = "while not (run_dir / 'stop').exists(): time.sleep(0.02)\n"
    command = started.run(
        planned({"generation_0": WAITS, "learner": learner, "loop": loop + WAITS})
    )
    wait_for((started.run_dir / "up").exists)
    assert state_words(read_status(started.run_dir)) == "runs"
    started.paths.stop_request.touch()
    assert "e3mega stop asked for it" in finish(command)[-1]
    assert command.returncode == 75
    assert state_words(read_status(started.run_dir)).startswith("left: left at a checkpoint")


def test_a_loop_that_does_not_leave_in_time_is_stopped(started: Started) -> None:
    deaf = "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n(run_dir / 'up').touch()\n"
    command = started.run(planned({**STEADY, "loop": deaf + WAITS}, leave_deadline_s=1.0))
    wait_for((started.run_dir / "up").exists)
    command.send_signal(signal.SIGUSR1)
    assert "but the loop did not within 1 s" in finish(command)[-1]


def two_nodes(started: Started, scripts: dict[str, str], **cluster: object) -> Plan:
    """A run folder whose learner has a part on a second node."""
    plan = planned({**scripts, "learner_1": scripts["learner"]}, **cluster)

    def moved(job: JobPlan) -> JobPlan:
        return replace(job, node=1) if job.name == "learner_1" else job

    plan = replace(plan, jobs=tuple(moved(job) for job in plan.jobs))
    started.run_dir.mkdir()
    create_folder(plan, "seed: 1\n", started.paths)
    return plan


BOTH = until("learner", 1) + until("learner_1", 1)


def test_two_nodes_run_one_run(started: Started) -> None:
    two_nodes(started, {"generation_0": WAITS, "learner": BOTH, "loop": BOTH})
    head, member = started.node(0), started.node(1)
    lines = finish(head)
    assert head.returncode == 0, lines
    assert finish(member)[-1].endswith("node 1: finished")
    assert member.returncode == 0
    assert processes_of(started.run_dir) == []
    assert {node.node for node in read_status(started.run_dir).nodes} == {0, 1}
    names = {path.name for path in started.paths.provenance(0).iterdir()}
    assert names == {"code.json", "code.diff", "node_0.json", "node_1.json"}


def test_a_job_that_dies_on_another_node_is_told_by_node_0(started: Started) -> None:
    dies_there = f"if sys.argv[3] == 'learner_1': {DIES}" + WAITS
    two_nodes(started, {"generation_0": WAITS, "learner": dies_there, "loop": WAITS})
    head, member = started.node(0), started.node(1)
    assert "job learner_1 on node 1 was killed by SIGKILL" in finish(head)[-1]
    finish(member)
    assert processes_of(started.run_dir) == []


def test_a_reason_that_another_node_states_is_not_repeated(started: Started) -> None:
    says = "if sys.argv[3] == 'learner_1': print('{\"reason\": \"loss is nan\"}'); sys.exit(1)\n"
    two_nodes(
        started, {"generation_0": WAITS, "learner": says + WAITS, "loop": WAITS}, max_restarts=3
    )
    head, member = started.node(0), started.node(1)
    assert "job learner_1 on node 1 exited with status 1: loss is nan" in finish(head)[-1]
    finish(member)
    assert len(attempts_of(started.run_dir)) == 1


def test_a_learner_of_two_nodes_begins_again_on_both(started: Started) -> None:
    learner = f"if sys.argv[2:4] == ['0', 'learner_1']: {DIES}elif sys.argv[2] == '0': {WAITS}"
    loop = f"if sys.argv[2] == '0': {WAITS}"
    two_nodes(started, {"generation_0": WAITS, "learner": learner, "loop": loop}, max_restarts=1)
    head, member = started.node(0), started.node(1)
    lines = finish(head)
    assert head.returncode == 0, lines
    finish(member)
    jobs = ("generation_0", "learner", "learner_1", "loop")
    assert [marks(started.run_dir, job) for job in jobs] == [1, 2, 2, 2]


def test_a_plan_of_two_nodes_is_not_run_on_one(started: Started) -> None:
    plan = two_nodes(started, dict(STEADY))
    with pytest.raises(Exception, match="fake needs 2 nodes; launch it with e3mega launch"):
        start_run(plan, "seed: 1\n", started.run_dir)


def test_a_node_that_never_comes_up_is_named(started: Started) -> None:
    two_nodes(started, dict(STEADY), node_deadline_s=2.0)
    head = started.node(0)
    assert "node 1 of 2 did not come up within 2 s" in finish(head)[-1]


def test_a_node_without_node_0_says_what_it_waited_for(started: Started) -> None:
    two_nodes(started, dict(STEADY), node_deadline_s=1.0)
    member = started.node(1)
    line = finish(member)[-1]
    assert "waited 1 s for node 0 to begin the run" in line and "order.json" in line


def test_a_node_that_falls_silent_ends_the_run(started: Started) -> None:
    two_nodes(started, dict(STEADY), heartbeat_deadline_s=3.0)
    head, member = started.node(0), started.node(1)
    wait_for(lambda: marks(started.run_dir, "learner_1") == 1)
    supervisors = [
        p for p in processes_of(started.run_dir) if "e3mega.run.supervisor" in p.cmdline()
    ]
    (silent,) = [p for p in supervisors if p.cmdline()[-2:] == ["1", "test.0"]]
    silent.suspend()
    assert f"node 1 ({socket.gethostname()}) is silent since" in finish(head)[-1]
    silent.resume()
    finish(member)
    assert processes_of(started.run_dir) == []


def test_nodes_whose_node_0_is_killed_do_not_stay(started: Started) -> None:
    two_nodes(started, dict(STEADY), heartbeat_deadline_s=2.0)
    head, member = started.node(0), started.node(1)
    wait_for(lambda: marks(started.run_dir, "learner_1") == 1)
    for process in processes_of(started.run_dir):
        if process.cmdline()[-2:] == ["0", "test.0"] or process.pid == head.pid:
            process.kill()
    assert "node 0 is silent since" in finish(member)[-1]
    wait_for(lambda: processes_of(started.run_dir) == [])


def test_a_later_job_of_a_chain_does_not_repeat_a_failure(started: Started) -> None:
    two_nodes(started, {**STEADY, "loop": "sys.exit('rows differ')\n"})
    for node in (started.node(0), started.node(1)):
        finish(node)
    head, member = started.node(0, "--continues"), started.node(1, "--continues")
    assert "not continued, since the run failed: job loop exited" in finish(head)[-1]
    assert head.returncode == 1
    finish(member)
    assert len(attempts_of(started.run_dir)) == 1


def test_an_interpreter_that_is_not_there_is_told(started: Started) -> None:
    plan = planned(STEADY)
    jobs = tuple(
        replace(job, argv=("/nowhere/python", *job.argv[1:])) if job.name == "loop" else job
        for job in plan.jobs
    )
    line = finish(started.run(replace(plan, jobs=jobs)))[-1]
    assert "job loop cannot be started: /nowhere/python: No such file" in line


def test_a_folder_that_takes_no_file_is_told_before_anything_starts() -> None:
    with pytest.raises(Exception, match="cannot write the run folder /proc/e3mega-run"):
        start_run(planned(STEADY), "seed: 1\n", Path("/proc/e3mega-run"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that is full soon")
def test_a_full_disk_is_named_and_nothing_stays(started: Started) -> None:
    started.run_dir.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(started.run_dir)], check=True
    )
    try:
        fills = "open(run_dir / 'big', 'wb').write(bytes(1 << 20))\n"
        lines = finish(started.run(planned({**STEADY, "loop": fills})))
        assert "No space left on device; free space" in lines[-1]
        assert processes_of(started.run_dir) == []
    finally:
        subprocess.run(["umount", "-l", str(started.run_dir)], check=True)
