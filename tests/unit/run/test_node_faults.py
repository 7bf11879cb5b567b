"""Faults of nodes on a run of two: what node 0 tells, and that nothing stays."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from e3mega.plan.paths import RunPaths
from e3mega.run.attempts import begin_attempt, end_attempt
from e3mega.run.begin_behind import note_source
from e3mega.run.local import start_run
from e3mega.run.views.status import read_status
from tests.unit.run.fake_runs import STEADY, WAITS, attempts_of, finish, processes_of, wait_for
from tests.unit.run.fault_runs import (
    DIES,
    Started,
    created,
    marks,
    on_node_1,
    planned,
    two_nodes,
    until,
)

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


def test_what_node_0_cannot_start_is_told_on_every_node_at_once(started: Started) -> None:
    two_nodes(started, STEADY, interface="nowhere0")
    head, member = started.node(0), started.node(1)
    words = "has no address on nowhere0; set cluster.interface to one of "
    assert words in finish(head)[-1]
    assert words in finish(member)[-1]
    assert (head.returncode, member.returncode) == (1, 1)
    (attempt,) = attempts_of(started.run_dir)
    assert words in str(attempt["reason"])


def test_a_node_that_falls_silent_ends_the_run(started: Started) -> None:
    two_nodes(started, dict(STEADY), heartbeat_deadline_s=3.0)
    head, member = started.node(0), started.node(1)
    wait_for(lambda: marks(started.run_dir, "learner_1") == 1)
    (silent,) = processes_of(started.run_dir, "e3mega.run.supervisor", "1", "test.0")
    silent.suspend()
    assert f"node 1 ({socket.gethostname()}) is silent since" in finish(head)[-1]
    silent.resume()
    finish(member)
    assert processes_of(started.run_dir) == []


def test_a_run_that_stands_still_has_the_stacks_of_both_nodes(started: Started) -> None:
    two_nodes(started, dict(STEADY), progress_deadline_s=4.0)
    head, member = started.node(0), started.node(1)
    line = finish(head)[-1]
    finish(member)
    assert "no progress for" in line and "stacks_0.log, " in line and "stacks_1.log" in line
    for node, jobs in ((0, 3), (1, 1)):
        assert started.paths.stacks(node).read_text().count("=== ") >= jobs


def test_nodes_whose_node_0_is_killed_do_not_stay(started: Started) -> None:
    two_nodes(started, dict(STEADY), heartbeat_deadline_s=2.0)
    head, member = started.node(0), started.node(1)
    wait_for(lambda: marks(started.run_dir, "learner_1") == 1)
    head.kill()
    for process in processes_of(started.run_dir, "e3mega.run.supervisor", "0", "test.0"):
        process.kill()
    assert "node 0 is silent since" in finish(member)[-1]
    wait_for(lambda: processes_of(started.run_dir) == [])


def test_a_run_does_not_begin_behind_one_that_failed(started: Started, tmp_path: Path) -> None:
    """Its other node, which waits for an order, hears of it too."""
    two_nodes(started, STEADY)
    source = RunPaths(tmp_path / "source")
    begin_attempt(source.exit_reason)
    end_attempt(source.exit_reason, reason="job learner exited with status 1", exit_code=1)
    note_source(started.paths, source.run_dir)
    first, second = started.node(0), started.node(1)
    lines = finish(first)
    assert first.returncode == 1
    assert "source, which is not finished: job learner exited with status 1; finish" in lines[-1]
    assert "which is not finished" in finish(second)[-1]
    assert processes_of(started.run_dir) == []


@pytest.mark.slow
def test_a_port_that_another_program_takes_costs_an_attempt_and_the_next_has_another(
    started: Started,
) -> None:
    """It is taken after it was chosen and before the ranks listen, by torch's own store."""
    meets = (
        "import socket\nfrom datetime import timedelta\n"
        "host, port, is_first = sys.argv[-2], int(sys.argv[-1]), sys.argv[3] == 'learner'\n"
        "if is_first and sys.argv[2] == '0':\n"
        "    other = socket.socket()\n    other.bind((host, port))\n    other.listen()\n"
        "from torch.distributed import TCPStore\n"
        "store = TCPStore(host, port, 2, is_first, timedelta(seconds=120))\n"
        "(run_dir / f'met_{sys.argv[2]}').touch()\n"
    )
    loop = "while not (run_dir / 'met_1').exists(): time.sleep(0.02)\n"
    scripts = {"generation_0": WAITS, "learner": meets, "loop": loop}
    plan = planned({**scripts, "learner_1": meets}, learner_nodes=2, max_restarts=1)
    meeting = ("{learner_host}", "{learner_port}")
    jobs = tuple(
        replace(job, argv=(*job.argv, *meeting)) if "learner" in job.name else job
        for job in plan.jobs
    )
    created(started, on_node_1(replace(plan, jobs=jobs), "learner_1"))
    head, member = started.node(0), started.node(1)
    lines = finish(head)
    assert head.returncode == 0, lines
    finish(member)
    ports = [json.loads(started.paths.learner_address(n).read_text())["port"] for n in (0, 1)]
    assert ports[0] != ports[1]
    first, second = attempts_of(started.run_dir)
    assert "EADDRINUSE" in str(first["reason"]) and str(ports[0]) in str(first["reason"])
    assert (first["exit"], second["exit"]) == (1, 0)


def test_a_later_job_of_a_chain_does_not_repeat_a_failure(started: Started) -> None:
    two_nodes(started, {**STEADY, "loop": "sys.exit('rows differ')\n"})
    for node in (started.node(0), started.node(1)):
        finish(node)
    head, member = started.node(0, "--continues"), started.node(1, "--continues")
    assert "not continued, since the run failed: job loop exited" in finish(head)[-1]
    assert head.returncode == 1
    finish(member)
    assert len(attempts_of(started.run_dir)) == 1
