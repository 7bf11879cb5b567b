"""A run ends as a whole, says why, and leaves no process, however it ends."""

import os
import signal
import stat
from pathlib import Path

import pytest

from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import plan_to_json
from tests.unit.run.fake_runs import (
    LEAVES,
    MAPS,
    SPAWNS,
    STEADY,
    WAITS,
    attempts_of,
    command_of,
    fake_plan,
    finish,
    processes_of,
    resume_command,
    start,
    wait_for,
)


class Run:
    """A fake run in a process of its own."""

    def __init__(self, folder: Path, scripts: dict[str, str], env: dict[str, str]) -> None:
        self.run_dir = folder / "run"
        self.paths = RunPaths(self.run_dir)
        plan_file = folder / "plan.json"
        plan_file.write_text(plan_to_json(fake_plan(scripts, env)))
        self.process = start(command_of(plan_file, self.run_dir))

    def wait_for_logs(self) -> None:
        wait_for(lambda: len(list((self.run_dir / "logs").glob("*.log"))) == 3)

    def wait_for_grandchildren(self) -> None:
        wait_for(lambda: len(list(self.run_dir.glob("grandchild_*"))) == 6)

    def finish(self) -> list[str]:
        return finish(self.process)

    def supervisor(self) -> int:
        (found,) = processes_of(self.run_dir, "e3mega.run.supervisor")
        return found.pid


class Runs:
    """Starts fake runs and makes sure that a failed test leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[Run] = []

    def start(self, scripts: dict[str, str], env: dict[str, str] | None = None) -> Run:
        run = Run(self._folder, scripts, env or {})
        self._runs.append(run)
        return run

    def close(self) -> None:
        for run in self._runs:
            run.process.kill()
            for process in processes_of(run.run_dir):
                process.kill()


@pytest.fixture
def runs(tmp_path: Path):
    started = Runs(tmp_path)
    yield started
    started.close()


def spawning(job: str, end: str) -> dict[str, str]:
    """Three jobs with two grandchildren each, of which one ends once all of them run."""
    all_run = "while len(list(run_dir.glob('grandchild_*'))) < 6: time.sleep(0.02)\n"
    return {name: SPAWNS + (all_run + end if name == job else WAITS) for name in STEADY}


@pytest.mark.parametrize("job", ["generation_0", "learner", "loop"])
def test_a_job_that_is_killed_ends_the_run_with_all_its_processes(runs: Runs, job: str) -> None:
    run = runs.start(spawning(job, "os.kill(os.getpid(), signal.SIGKILL)\n"))
    lines = run.finish()
    assert run.process.returncode == 1
    assert f"job {job} was killed by SIGKILL" in lines[-1]
    assert processes_of(run.run_dir) == []


def test_the_last_exception_of_a_job_is_on_the_last_line(runs: Runs) -> None:
    run = runs.start({**STEADY, "learner": "raise ValueError('rows 3 and 4 differ')\n"})
    lines = run.finish()
    assert run.process.returncode == 1
    assert "job learner exited with status 1: ValueError: rows 3 and 4 differ" in lines[-1]
    (attempt,) = attempts_of(run.run_dir)
    assert attempt["exit"] == 1
    assert "rows 3 and 4 differ" in str(attempt["reason"])


def test_a_server_that_leaves_quietly_ends_the_run(runs: Runs) -> None:
    run = runs.start({**STEADY, "generation_0": LEAVES})
    assert "job generation_0 exited with status 0 while" in run.finish()[-1]
    assert run.process.returncode == 1


def test_a_killed_server_is_blamed_rather_than_the_loop_that_missed_it(runs: Runs) -> None:
    loop = "time.sleep(0.5)\nsys.exit('the server is gone')\n"
    server = "time.sleep(0.6)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    run = runs.start({"generation_0": server, "learner": WAITS, "loop": loop})
    lines = run.finish()
    assert "job generation_0 was killed by SIGKILL" in lines[-1]
    assert any("also: job loop" in line and "the server is gone" in line for line in lines)


def test_a_run_is_done_when_loop_and_learner_have_left(runs: Runs) -> None:
    evaluation = (
        "import json\n"
        "(run_dir / 'metrics').mkdir(exist_ok=True)\n"
        "for label, accuracy in (('base', .25), ('easy', .5)):\n"
        "    event = dict(time=1, event='evaluation', label=label, stage=label, version=1,\n"
        "                 slice='all', budgets=[64, 128], accuracy=[accuracy, .75],\n"
        "                 stderr=[.0625, .125], mean_attempts=3.5, mean_length=50.,\n"
        "                 truncated=[.5, .25], num_problems=8)\n"
        "    print(json.dumps(event), file=open(run_dir / 'metrics' / 'loop.jsonl', 'a'))\n"
    )
    run = runs.start({"generation_0": SPAWNS + WAITS, "learner": LEAVES, "loop": evaluation})
    lines = run.finish()
    assert run.process.returncode == 0, lines
    table = [line.split() for line in lines]
    assert ["all", "base", "0.250±.062", "0.750±.125", "3.5"] in table
    assert ["easy", "0.500±.062", "0.750±.125", "3.5"] in table
    assert lines[-2].endswith("report/index.html") and run.paths.report.exists()
    assert lines[-1].endswith("export/hf")
    assert processes_of(run.run_dir) == []
    assert [(a["attempt"], a["reason"], a["exit"]) for a in attempts_of(run.run_dir)] == [
        (0, "finished", 0)
    ]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_everything_and_says_how_to_go_on(
    runs: Runs, number: int, status: int
) -> None:
    run = runs.start(spawning("loop", WAITS))
    run.wait_for_grandchildren()
    run.process.send_signal(number)
    lines = run.finish()
    assert run.process.returncode == status
    assert f"e3mega resume {run.run_dir}" in lines[-2]
    assert "stopped by" in lines[-1]
    assert processes_of(run.run_dir) == []
    assert attempts_of(run.run_dir)[0]["exit"] == status


def test_a_second_ctrl_c_does_not_wait_for_a_job_that_does_not_obey(runs: Runs) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(run_dir / 'deaf').touch()\n" + WAITS
    run = runs.start({**STEADY, "learner": deaf, "generation_0": MAPS + WAITS})
    wait_for((run.run_dir / "deaf").exists)
    wait_for((run.run_dir / "segment").exists)
    run.process.send_signal(signal.SIGINT)
    assert run.process.stdout is not None
    wait_for(lambda: "stopping" in run.process.stdout.readline())
    run.process.send_signal(signal.SIGINT)
    run.process.communicate(timeout=5)
    assert run.process.returncode == 130
    assert processes_of(run.run_dir) == []
    assert not Path("/dev/shm", (run.run_dir / "segment").read_text()).exists()


def test_a_killed_supervisor_leaves_nothing(runs: Runs) -> None:
    scripts = spawning("loop", WAITS)
    run = runs.start({**scripts, "learner": MAPS + scripts["learner"]})
    run.wait_for_grandchildren()
    run.paths.shared_memory.mkdir()
    wait_for(run.paths.segments(0).exists)
    os.kill(run.supervisor(), signal.SIGKILL)
    lines = run.finish()
    assert run.process.returncode == 137
    assert "the supervisor was killed by SIGKILL" in lines[-1]
    assert processes_of(run.run_dir) == []
    assert not run.paths.shared_memory.exists()
    segment = Path("/dev/shm", (run.run_dir / "segment").read_text())
    assert not segment.exists()
    assert attempts_of(run.run_dir)[0]["exit"] == 137


def test_a_killed_command_leaves_nothing(runs: Runs) -> None:
    run = runs.start(spawning("loop", WAITS))
    run.wait_for_grandchildren()
    run.process.kill()
    wait_for(lambda: processes_of(run.run_dir) == [])
    assert "the e3mega command was killed" in str(attempts_of(run.run_dir)[0]["reason"])


def test_a_resume_counts_attempts_and_clears_what_a_killed_one_left(runs: Runs) -> None:
    script = "pathlib.Path(run_dir / f'attempt_{sys.argv[2]}').touch()\nsys.exit(3)\n"
    run = runs.start({**STEADY, "loop": script})
    run.finish()
    run.paths.shared_memory.mkdir()
    address = run.paths.address(0)
    address.parent.mkdir()
    address.write_text("stale")
    second = start(resume_command(run.run_dir))
    assert "job loop exited with status 3" in finish(second)[-1]
    assert sorted(path.name for path in run.run_dir.glob("attempt_*")) == ["attempt_0", "attempt_1"]
    assert [attempt["attempt"] for attempt in attempts_of(run.run_dir)] == [0, 1]
    assert not address.exists() and not run.paths.shared_memory.exists()
    headers = [line for line in run.paths.log("loop").read_text().splitlines() if "===" in line]
    assert [header.split(",")[0] for header in headers] == ["=== attempt 0", "=== attempt 1"]


def test_a_second_supervisor_is_refused_while_the_first_works(runs: Runs) -> None:
    run = runs.start(STEADY)
    run.wait_for_logs()
    second = start(resume_command(run.run_dir))
    assert "is at work already (process" in finish(second)[-1]
    assert second.returncode == 1
    assert run.process.poll() is None


def test_a_run_folder_holds_what_the_jobs_start_from_and_is_used_once(
    runs: Runs, tmp_path: Path
) -> None:
    run = runs.start({**STEADY, "loop": "sys.exit(4)\n"})
    run.finish()
    assert stat.S_IMODE(run.paths.key.stat().st_mode) == 0o600
    assert len(bytes.fromhex(run.paths.key.read_text())) == 32
    assert run.paths.resolved.read_text() == "seed: 1\n"
    names = {path.name for path in run.paths.model_dir.iterdir()}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    again = start(command_of(tmp_path / "plan.json", run.run_dir))
    assert "holds a run already" in finish(again)[-1]
    assert again.returncode == 1


def test_a_job_gets_the_plans_environment_and_little_else(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURPRISE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    dump = "(run_dir / 'environment').write_text('\\n'.join(sorted(os.environ)))\n"
    threads = "sys.exit(int(os.environ['OMP_NUM_THREADS']))\n"
    run = runs.start({**STEADY, "loop": dump + threads}, env={"OMP_NUM_THREADS": "5"})
    assert "job loop exited with status 5" in run.finish()[-1]
    names = (run.run_dir / "environment").read_text().split()
    assert "PATH" in names and "SURPRISE" not in names
