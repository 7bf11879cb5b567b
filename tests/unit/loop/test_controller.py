"""The loop against fakes of the learner and the servers."""

import asyncio
import json
from pathlib import Path

import pytest

from e3mega.errors import SyncError, TierError
from e3mega.loop.controller import Controller
from e3mega.loop.jobs import Jobs
from e3mega.loop.leave import run_or_leave
from e3mega.loop.state import LoopState, read_state
from e3mega.loop.tier import Tier
from e3mega.metrics import MetricsWriter, read_metrics
from e3mega.plan.compile import compile_plan
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.rollout.batch_file import read_batch
from e3mega.rollout.records import Command, CommandKind, Reply
from e3mega.spec.resolve import find_spec, resolve_spec
from e3mega.tasks.countdown.task import CountdownTask
from tests.fakes import FakeLearner, FakeServer, Killed, newest_state

SPEC = find_spec("quickstart-small")


def small_plan(*settings: str) -> Plan:
    return compile_plan(resolve_spec(SPEC, sets=settings).options)


def make_jobs(plan: Plan, run_dir: Path, *, num_servers: int = 1) -> tuple[Jobs, FakeLearner]:
    paths = RunPaths(run_dir)
    paths.scores.mkdir(parents=True, exist_ok=True)
    tasks = tuple(CountdownTask(stage.task, plan.seed) for stage in plan.stages)
    servers = tuple(FakeServer(tasks[0]) for _ in range(num_servers))
    learner = FakeLearner(paths, servers)
    metrics = MetricsWriter(paths.metrics("loop"))
    jobs = Jobs(
        plan=plan,
        paths=paths,
        tasks=tasks,
        learner=learner,
        open_learner=lambda _: FakeLearner(paths, servers, version=learner.version),
        tier=Tier(servers, metrics, start_deadline_s=1.0),
        metrics=metrics,
    )
    return jobs, learner


def run(jobs: Jobs, state: LoopState | None = None) -> LoopState:
    return asyncio.run(Controller(jobs, state or LoopState()).run())


def batches(run_dir: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in sorted((run_dir / "batches").rglob("*.safetensors"))
    }


def events(run_dir: Path, name: str) -> list[dict[str, object]]:
    path = RunPaths(run_dir).metrics("loop")
    return [event for event in read_metrics(path) if event["event"] == name]


def test_a_run_ends_with_an_export_and_every_step_counted_once(tmp_path: Path) -> None:
    plan = small_plan()
    jobs, learner = make_jobs(plan, tmp_path)
    state = run(jobs)
    assert [c.kind for c in learner.commands[-2:]] == [CommandKind.EXPORT, CommandKind.STOP]
    assert [event["step"] for event in events(tmp_path, "step")] == list(
        range(1, state.version + 1)
    )
    assert (
        state.version
        == learner.version
        == sum(1 for _ in (tmp_path / "batches").rglob("*.safetensors"))
    )
    state.ledger.check(is_drained=True)


def test_every_batch_is_sampled_under_the_weights_it_trains(tmp_path: Path) -> None:
    plan = small_plan()
    jobs, _ = make_jobs(plan, tmp_path)
    run(jobs)
    for event in events(tmp_path, "step"):
        if event["mode"] == "rl":
            assert event["lag"] == 0
            assert event["version"] == int(str(event["step"])) - 1


def test_with_max_lag_1_later_batches_are_one_round_old(tmp_path: Path) -> None:
    plan = small_plan("rollout.max_lag=1", "loss.correction.kind=truncated")
    jobs, _ = make_jobs(plan, tmp_path)
    state = run(jobs)
    lags = {
        stage.name: [e["lag"] for e in events(tmp_path, "step") if e["stage"] == stage.name]
        for stage in plan.stages
    }
    for stage in plan.stages:
        if stage.mode.value == "rl":
            assert lags[stage.name] == [0, *[1] * (len(lags[stage.name]) - 1)]
    state.ledger.check(is_drained=True)


@pytest.mark.parametrize("max_lag", [0, 1])
@pytest.mark.parametrize("kill_after", [1, 20, 45, 70])
def test_a_killed_loop_goes_on_to_the_same_batches(
    tmp_path: Path, kill_after: int, max_lag: int
) -> None:
    settings = ["checkpoint.every_rounds=1"]
    if max_lag:
        settings += [f"rollout.max_lag={max_lag}", "loss.correction.kind=truncated"]
    plan = small_plan(*settings)
    whole, straight = make_jobs(plan, tmp_path / "whole")
    final = run(whole)

    killed, learner = make_jobs(plan, tmp_path / "killed")
    for server in learner.servers:
        server.kill_after = kill_after
    with pytest.raises(Killed):
        run(killed)
    resumed, learner = make_jobs(plan, tmp_path / "killed")
    has_checkpoint = resumed.paths.checkpoints.exists()
    state = read_state(newest_state(resumed.paths)) if has_checkpoint else LoopState()
    learner.version = state.version
    ended = run(resumed, state)
    assert batches(tmp_path / "killed") == batches(tmp_path / "whole")
    for name in ("generated", "trained", "evaluated", "supervised", "batches_by_lag"):
        assert getattr(ended.ledger, name) == getattr(final.ledger, name)
    ended.ledger.check(is_drained=True)
    generated = sum(server.num_generated for server in learner.servers)
    assert generated + kill_after == straight.servers[0].num_generated


@pytest.mark.parametrize("max_lag", [0, 1])
@pytest.mark.parametrize("leave_after", [1, 20, 45, 70])
def test_a_loop_that_is_asked_to_leave_goes_on_to_the_same_batches(
    tmp_path: Path, leave_after: int, max_lag: int
) -> None:
    settings = ["checkpoint.every_rounds=4"]
    if max_lag:
        settings += [f"rollout.max_lag={max_lag}", "loss.correction.kind=truncated"]
    plan = small_plan(*settings)
    whole, _ = make_jobs(plan, tmp_path / "whole")
    final = run(whole)

    jobs, learner = make_jobs(plan, tmp_path / "left")

    async def leave() -> bool:
        asked = learner.servers[0].asked_to_leave = asyncio.Event()
        learner.servers[0].leave_after = leave_after
        return await run_or_leave(Controller(jobs, LoopState()), asked)

    assert asyncio.run(leave())
    assert learner.commands[-1].kind is CommandKind.STOP
    resumed, learner = make_jobs(plan, tmp_path / "left")
    state = read_state(newest_state(resumed.paths))
    assert state.version > 0, "what was trained is in the checkpoint"
    learner.version = state.version
    ended = run(resumed, state)
    assert batches(tmp_path / "left") == batches(tmp_path / "whole")
    steps = [event["step"] for event in events(tmp_path / "left", "step")]
    assert steps == list(range(1, final.version + 1)), "no step is taken twice"
    ended.ledger.check(is_drained=True)


def test_servers_whose_scores_differ_stop_the_run(tmp_path: Path) -> None:
    jobs, learner = make_jobs(small_plan(), tmp_path)
    learner.drifts = True
    with pytest.raises(SyncError, match="generation_0"):
        run(jobs)


def test_two_servers_share_the_groups(tmp_path: Path) -> None:
    jobs, learner = make_jobs(small_plan(), tmp_path, num_servers=2)
    run(jobs)
    counts = [server.num_generated for server in learner.servers]
    assert min(counts) > 0.3 * max(counts)


@pytest.mark.parametrize("max_lag", [0, 1])
@pytest.mark.parametrize("fail_at", [{0}, {1, 20}, {3, 9, 16}])
def test_a_server_that_dies_and_comes_again_changes_no_batch(
    tmp_path: Path, fail_at: set[int], max_lag: int
) -> None:
    settings = [f"rollout.max_lag={max_lag}", "loss.correction.kind=truncated"] if max_lag else []
    plan = small_plan(*settings)
    whole, _ = make_jobs(plan, tmp_path / "whole", num_servers=2)
    final = run(whole)
    jobs, learner = make_jobs(plan, tmp_path / "faulty", num_servers=2)
    learner.servers[1].fail_at = set(fail_at)
    state = run(jobs)
    assert batches(tmp_path / "faulty") == batches(tmp_path / "whole")
    state.ledger.check(is_drained=True)
    assert state.ledger.prompts_redrawn >= len(fail_at)
    assert state.ledger.generated == final.ledger.generated
    lost = events(tmp_path / "faulty", "server_lost")
    assert [event["server"] for event in lost] == [1] * len(fail_at)
    if max_lag == 0:
        assert events(tmp_path / "faulty", "server_joined")


def test_a_server_that_ends_while_nothing_is_asked_of_it_is_missed(tmp_path: Path) -> None:
    """Its end comes while the learner trains, before the next request could fail."""
    plan = small_plan()
    whole, _ = make_jobs(plan, tmp_path / "whole", num_servers=2)
    run(whole)
    jobs, learner = make_jobs(plan, tmp_path / "faulty", num_servers=2)

    class Deadly(FakeLearner):
        def _train(self, command: Command) -> Reply:
            if command.stage == "easy":
                self.servers[1].end.set()
            return super()._train(command)

    jobs.learner = Deadly(learner.paths, learner.servers)
    state = run(jobs)
    assert batches(tmp_path / "faulty") == batches(tmp_path / "whole")
    assert state.ledger.prompts_redrawn == 0
    lost = events(tmp_path / "faulty", "server_lost")
    assert lost and {(e["server"], e["reason"]) for e in lost} == {(1, "its process ended")}
    assert events(tmp_path / "faulty", "server_joined")


def test_a_server_that_takes_no_sync_is_left_out_until_it_starts_again(tmp_path: Path) -> None:
    jobs, learner = make_jobs(small_plan(), tmp_path, num_servers=2)
    learner.refused_syncs = {(1, 1)}
    state = run(jobs)
    state.ledger.check(is_drained=True)
    (lost,) = events(tmp_path, "server_lost")
    assert (lost["server"], lost["reason"]) == (1, "generation_1 took nothing")
    assert events(tmp_path, "server_joined")


def test_a_server_that_never_comes_again_leaves_its_work_to_the_other(tmp_path: Path) -> None:
    whole, _ = make_jobs(small_plan(), tmp_path / "whole", num_servers=2)
    run(whole)
    jobs, learner = make_jobs(small_plan(), tmp_path / "faulty", num_servers=2)
    learner.servers[0].fail_at, learner.servers[0].restart_s = {3}, None
    state = run(jobs)
    assert batches(tmp_path / "faulty") == batches(tmp_path / "whole")
    state.ledger.check(is_drained=True)
    # Those in flight beside the one that died may still finish, for nobody.
    assert learner.servers[0].num_generated <= 3 + 8


def test_a_run_whose_last_server_is_lost_says_why(tmp_path: Path) -> None:
    jobs, learner = make_jobs(small_plan(), tmp_path)
    learner.servers[0].fail_at, learner.servers[0].restart_s = {3}, None
    with pytest.raises(TierError, match=r"no generation server .*the last one lost"):
        run(jobs)


@pytest.mark.parametrize("method", ["wait_until_ready", "wait_until_gone"])
def test_a_fault_of_what_watches_a_server_ends_the_run(tmp_path: Path, method: str) -> None:
    """Any error will do; unheard, the run would go on without the server and never say so."""
    jobs, learner = make_jobs(small_plan(), tmp_path, num_servers=2)

    async def fail(*_: object) -> str:
        raise ValueError("the address file is no JSON")

    setattr(learner.servers[1], method, fail)
    with pytest.raises(ValueError, match="the address file is no JSON"):
        run(jobs)


def test_the_metrics_file_is_json_lines(tmp_path: Path) -> None:
    jobs, _ = make_jobs(small_plan(), tmp_path)
    run(jobs)
    for line in RunPaths(tmp_path).metrics("loop").read_text().splitlines():
        assert "event" in json.loads(line)


def test_batches_carry_their_stage_and_version(tmp_path: Path) -> None:
    jobs, _ = make_jobs(small_plan(), tmp_path)
    run(jobs)
    for path in (tmp_path / "batches").rglob("*.safetensors"):
        batch = read_batch(path)
        assert batch.stage == path.parent.name
        assert batch.version <= batch.step
