"""What a real Slurm does with a run's jobs when they leave, fail or are preempted.

The runs are small scripts in the place of training, so that each takes seconds.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e3mega.launch.record import LaunchRecord, read_record, write_record
from e3mega.run.views.status import read_status
from tests.cluster.local_slurm import LocalSlurm
from tests.unit.run.fake_runs import WAITS, attempts_of
from tests.unit.run.fault_runs import Started, created, marks, on_node_1, planned, two_nodes

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

SITE = 'kind: slurm\nexecutor: {account: lab, partition: batch, time: "00:30:00"}\n'
REQUEUE = f"{SITE}chain: {{kind: requeue, jobs: 3}}\n"
DEPENDENT = f"{SITE}chain: {{kind: dependent, jobs: 2}}\n"
LEARNS = "while not (run_dir / f'done_{sys.argv[2]}').exists(): time.sleep(0.02)\n"
"""The learner leaves when the loop has."""
LOOP = """\
def leave(*_):
    (run_dir / f'done_{sys.argv[2]}').touch()
    sys.exit(75)
signal.signal(signal.SIGUSR1, leave)
(run_dir / f'up_{sys.argv[2]}').touch()
"""
"""The loop leaves with the status of a checkpoint when it is asked to."""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    it = Started(tmp_path)
    yield it
    it.close()


def submit(started: Started, slurm: LocalSlurm, site: str) -> str:
    """Submit the run of a folder; the id of its only job."""
    file = started.run_dir.parent / "site.yaml"
    file.write_text(site)
    write_record(started.paths, LaunchRecord(str(file), "before", ()))
    done = subprocess.run(
        [sys.executable, "-m", "e3mega.cli", "resume", str(started.run_dir)],
        env=slurm.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_record(started.paths)
    assert record is not None
    return record.handles[0]


def wait_for(condition: Callable[[], bool], started: Started, seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        printed = [p.read_text() for p in started.paths.launches.rglob("*.out")]
        assert time.monotonic() < deadline, "\n".join(["waited in vain", *printed])
        time.sleep(0.2)


def state(slurm: LocalSlurm, job: str) -> str:
    return slurm.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").split("\n")[0]


def is_up(started: Started, attempt: int) -> Callable[[], bool]:
    """Whether the loop of an attempt runs, and the learner's part on the other node with it."""
    return lambda: (
        (started.run_dir / f"up_{attempt}").exists()
        and marks(started.run_dir, "learner_1") > attempt
    )


def ends_in(loop: str) -> dict[str, str]:
    """Jobs of a run whose loop can be asked to leave, and then does this."""
    return {"generation_0": WAITS, "learner": LEARNS, "loop": f"{LOOP}{loop}"}


def exits(started: Started) -> list[object]:
    return [attempt["exit"] for attempt in attempts_of(started.run_dir)]


def test_a_job_is_queued_again_when_the_run_left_but_not_when_it_failed(
    slurm: LocalSlurm, started: Started
) -> None:
    fails = f"if sys.argv[2] == '1': sys.exit('rows differ')\n{WAITS}"
    two_nodes(started, ends_in(fails), leave_deadline_s=60)
    job = submit(started, slurm, REQUEUE)
    wait_for(is_up(started, 0), started)
    slurm.run("scancel", "--signal=USR1", job)
    wait_for(lambda: state(slurm, job) == "FAILED", started)
    assert exits(started) == [75, 1]
    assert "its time on the machine ends" in str(attempts_of(started.run_dir)[0]["reason"])
    assert "rows differ" in str(attempts_of(started.run_dir)[1]["reason"])


def test_a_preempted_job_leaves_at_a_checkpoint_and_comes_again(
    slurm: LocalSlurm, started: Started
) -> None:
    finishes = f"if sys.argv[2] == '0': {WAITS}(run_dir / 'done_1').touch()\n"
    two_nodes(started, ends_in(finishes), leave_deadline_s=60)
    job = submit(started, slurm, REQUEUE)
    wait_for(is_up(started, 0), started)
    urgent = ("-p", "urgent", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3")
    assert slurm.run("sbatch", *urgent)
    wait_for(lambda: state(slurm, job) == "COMPLETED", started)
    assert exits(started) == [75, 0]


def test_a_job_that_is_sent_sigterm_comes_again_and_a_cancelled_one_does_not(
    slurm: LocalSlurm, started: Started
) -> None:
    two_nodes(started, ends_in(WAITS), leave_deadline_s=60)
    job = submit(started, slurm, REQUEUE)
    wait_for(is_up(started, 0), started)
    slurm.run("scancel", "--signal=TERM", job)
    wait_for(is_up(started, 1), started)
    slurm.run("scancel", job)
    wait_for(lambda: state(slurm, job) == "CANCELLED", started)
    assert exits(started) == [143, 143]
    assert "stopped by SIGTERM" in str(attempts_of(started.run_dir)[1]["reason"])


def test_nodes_of_two_sorts_are_one_heterogeneous_job_and_chains_of_them_go_on(
    slurm: LocalSlurm, started: Started
) -> None:
    """Its parts leave together; the next job waits for all of it."""
    finishes = f"if sys.argv[2] == '0': {WAITS}(run_dir / 'done_1').touch()\n"
    plan = planned(ends_in(finishes), generation_nodes=1, leave_deadline_s=60)
    created(started, on_node_1(plan, "generation_0"))
    job = submit(started, slurm, DEPENDENT)
    wait_for(lambda: (started.run_dir / "up_0").exists(), started)
    wait_for(lambda: len(read_status(started.run_dir).nodes) == 2, started)
    sizes = slurm.run("squeue", "-h", "-t", "running", "-o", "%i %D").split("\n")
    assert sorted(sizes) == [f"{job}+0 1", f"{job}+1 1"]
    slurm.run("scancel", "--signal=USR1", job)
    wait_for(lambda: exits(started) == [75, 0], started)
    assert marks(started.run_dir, "generation_0") == 2
