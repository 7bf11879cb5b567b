"""Stages of the loop beyond fixed budgets and steps: data, ramps, exits, caps, exact resume."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast
from zlib import crc32

import pytest

from e3mega.errors import E3Error
from e3mega.loop.controller import Controller
from e3mega.loop.jobs import Jobs
from e3mega.loop.state import LoopState, read_state, state_to_json
from e3mega.plan.paths import RunPaths
from e3mega.plan.set_caps import append_caps, parse_caps, with_caps
from e3mega.rollout.batch_file import read_batch
from e3mega.rollout.records import CommandKind
from e3mega.rollout.rows import read_groups
from e3mega.tasks.interface import Marks, Prompt, Task
from tests.fakes import FakeLearner, Killed, newest_state
from tests.unit.loop.test_controller import batches, events, make_jobs, small_plan

STAGE = "curriculum.stages.easy"
ENDLESS = ("curriculum.stages.easy.exit={kind: steps, steps: 30}",)


def run(jobs: Jobs, state: LoopState | None = None) -> LoopState:
    return asyncio.run(Controller(jobs, state or LoopState()).run())


def finished(run_dir: Path, stage: str) -> dict[str, object]:
    return next(event for event in events(run_dir, "stage_finished") if event["stage"] == stage)


def problems(run_dir: Path, stage: str) -> list[str]:
    paths = sorted((RunPaths(run_dir).rollouts_for("train") / stage).glob("*.parquet"))
    return [group.request.prompt.problem for path in paths for group in read_groups(path)]


def test_a_ramp_changes_the_budget_within_the_stage(tmp_path: Path) -> None:
    ramp = "{kind: ramp, levels: [16, 32, 64], steps_per_level: 1}"
    plan = small_plan(f"{STAGE}.budget={ramp}", f"{STAGE}.exit.steps=4")
    jobs, _ = make_jobs(plan, tmp_path)
    run(jobs)
    steps = [event for event in events(tmp_path, "step") if event["stage"] == "easy"]
    assert [event["budget_tokens"] for event in steps] == [16, 32, 64, 64]
    paths = sorted((RunPaths(tmp_path).rollouts_for("train") / "easy").glob("*.parquet"))
    asked = [read_groups(path)[0].request.max_tokens for path in paths]
    assert asked == [16, 32, 64, 64]
    for path, limit in zip(paths, asked, strict=True):
        rollouts = [r for group in read_groups(path) for r in group.rollouts]
        assert max(len(r.completion.token_ids) for r in rollouts) <= limit


def test_a_mixture_sets_the_share_of_its_parts(tmp_path: Path) -> None:
    parts = "{easy: {slices: [easy], weight: 3}, hard: {slices: [hard], weight: 1}}"
    plan = small_plan(
        f"{STAGE}.task.half=all", f"{STAGE}.data.parts={parts}", f"{STAGE}.exit.steps=4"
    )
    jobs, _ = make_jobs(plan, tmp_path)
    run(jobs)
    paths = (RunPaths(tmp_path).rollouts_for("train") / "easy").glob("*.parquet")
    slices = [g.request.prompt.slice_name for path in paths for g in read_groups(path)]
    assert (slices.count("easy"), slices.count("hard")) == (24, 8)


def test_a_stage_ends_when_its_limited_data_does(tmp_path: Path) -> None:
    """The budget rule's problems and the stage's prompts are those of the filter alone."""
    jobs, _ = make_jobs(small_plan(*ENDLESS), tmp_path / "count")
    size = jobs.tasks[1].num_training
    plan = small_plan(
        *ENDLESS,
        f"{STAGE}.data.parts={{once: {{max_repeats: 1}}}}",
        "task.held_out_frac=0.98",
    )
    jobs, _ = make_jobs(plan, tmp_path / "run")
    run(jobs)
    available = jobs.tasks[1].num_training
    assert available < size
    assert finished(tmp_path / "run", "easy")["reason"] == "data"
    seen = problems(tmp_path / "run", "easy")
    assert len(seen) == len(set(seen)) == available // 8 * 8


def test_data_that_no_prompt_passes_is_refused_with_what_to_change(tmp_path: Path) -> None:
    plan = small_plan(f"{STAGE}.data.parts={{graded: {{min_pass_rate: 0.5}}}}")
    jobs, _ = make_jobs(plan, tmp_path)
    with pytest.raises(E3Error, match=r"stage easy: .* widen data.parts"):
        run(jobs)


class EasyThird:
    """The task, but every third problem is always solved, the others never."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> object:
        return getattr(self._task, name)

    async def judge(self, prompt: Prompt, token_ids: Sequence[int]) -> Marks:
        is_easy = crc32(prompt.problem.encode()) % 3 == 0
        return replace(self._task.mark(prompt, token_ids), reward=float(is_easy))


def with_easy_problems(jobs: Jobs) -> Jobs:
    jobs.tasks = tuple(cast("Task", EasyThird(task)) for task in jobs.tasks)
    return jobs


def test_a_solved_prompt_does_not_come_again(tmp_path: Path) -> None:
    """Against a slow account of the rollouts on disk: after a group of hits alone, none."""
    settings = ("task.held_out_frac=0.98", "rollout.samples_per_prompt=2", *ENDLESS)
    plan = small_plan(*settings, f"{STAGE}.data.drops_solved=true")
    jobs, _ = make_jobs(plan, tmp_path / "drops")
    run(with_easy_problems(jobs))
    paths = sorted((RunPaths(tmp_path / "drops").rollouts_for("train") / "easy").glob("*"))
    solved: set[str] = set()
    for path in paths:
        groups = read_groups(path)
        assert not solved & {group.request.prompt.problem for group in groups}
        solved |= {
            group.request.prompt.problem
            for group in groups
            if all(rollout.marks.reward > 0 for rollout in group.rollouts)
        }
    assert len(solved) > 3
    seen = problems(tmp_path / "drops", "easy")
    assert len(seen) > 2 * len(set(seen)), "the others come again"


@pytest.mark.parametrize(
    ("exit", "reason", "steps"),
    [
        ("{kind: target, at_least: 0.0, every_steps: 2, max_steps: 20}", "target", 2),
        ("{kind: plateau, every_steps: 1, patience: 2, min_gain: 1, max_steps: 20}", "plateau", 3),
        ("{kind: tokens, of: trained, num_tokens: 1, max_steps: 20}", "tokens", 1),
        ("{kind: target, at_least: 1.0, every_steps: 2, max_steps: 3}", "cap", 3),
        (
            "{kind: target, of: accuracy, at_least: 0.0, every_steps: 3, max_steps: 9}",
            "target",
            3,
        ),
    ],
)
@pytest.mark.parametrize("max_lag", [0, 1])
def test_exit_rules_end_a_stage_and_its_ledger_balances(
    tmp_path: Path, exit: str, reason: str, steps: int, max_lag: int
) -> None:
    settings = [f"{STAGE}.exit={exit}"]
    if max_lag:
        settings += ["rollout.max_lag=1", "loss.correction.kind=truncated"]
    jobs, _ = make_jobs(small_plan(*settings), tmp_path)
    state = run(jobs)
    assert finished(tmp_path, "easy")["reason"] == reason
    taken = [event for event in events(tmp_path, "step") if event["stage"] == "easy"]
    assert len(taken) == steps
    state.ledger.check(is_drained=True)
    on_disk = {}
    for purpose in ("train", "evaluate", "pass_k", "budget", "exit"):
        rows = RunPaths(tmp_path).rollouts_for(purpose).rglob("*.parquet")
        groups = [group for path in rows for group in read_groups(path)]
        on_disk[purpose] = sum(len(r.completion.token_ids) for g in groups for r in g.rollouts)
    dropped = sum(amount.tokens for amount in state.ledger.discarded.values())
    assert state.ledger.generated.tokens == sum(on_disk.values())
    assert state.ledger.trained.tokens + dropped == on_disk["train"]
    assert (dropped > 0) == (max_lag == 1 and reason != "cap")


@pytest.mark.parametrize("kill_after", [2, 22, 30, 38, 50, 66])
def test_a_killed_stage_with_a_memory_goes_on_to_the_same_batches(
    tmp_path: Path, kill_after: int
) -> None:
    """Drops, a mixture, a ramp, a lag and a plateau together: what they remember is restored."""
    plan = small_plan(
        *("checkpoint.every_rounds=2", "rollout.max_lag=1", "loss.correction.kind=truncated"),
        *("task.held_out_frac=0.98", "rollout.samples_per_prompt=2"),
        f"{STAGE}.exit={{kind: plateau, every_steps: 1, patience: 6, max_steps: 8}}",
        f"{STAGE}.budget={{kind: ramp, levels: [32, 64], steps_per_level: 3}}",
        f"{STAGE}.data={{drops_solved: true, parts: {{a: {{weight: 2, max_repeats: 3}}}}}}",
    )
    whole, _ = make_jobs(plan, tmp_path / "whole")
    final = run(with_easy_problems(whole))
    killed, learner = make_jobs(plan, tmp_path / "killed")
    learner.servers[0].kill_after = kill_after
    with pytest.raises(Killed):
        run(with_easy_problems(killed))
    resumed, learner = make_jobs(plan, tmp_path / "killed")
    has_checkpoint = resumed.paths.checkpoints.exists()
    state = read_state(newest_state(resumed.paths)) if has_checkpoint else LoopState()
    learner.version = state.version
    ended = run(with_easy_problems(resumed), state)
    assert batches(tmp_path / "killed") == batches(tmp_path / "whole")
    for name in ("generated", "trained", "evaluated", "discarded", "truncated"):
        assert getattr(ended.ledger, name) == getattr(final.ledger, name)
    assert ended.signals == final.signals


def test_a_cap_stops_the_run_before_it_is_passed(tmp_path: Path) -> None:
    plan = small_plan(*ENDLESS, f"{STAGE}.caps.max_trained_tokens=9000")
    jobs, _ = make_jobs(plan, tmp_path)
    with pytest.raises(E3Error, match=r"curriculum.stages.easy.caps.max_trained_tokens: \d+ tok"):
        run(jobs)
    ledger = events(tmp_path, "ledger")[-1]["stages"]
    assert isinstance(ledger, dict)
    trained = ledger["easy"]["trained"]["tokens"]
    # One round is 8 prompts x 4 samples x 64 tokens at most.
    assert trained + 2048 > 9000 - 2048 and trained <= 9000


def test_a_run_goes_on_with_a_higher_cap_to_the_same_batches(tmp_path: Path) -> None:
    """The cap stops it, then every resume of it, until it is set; the plan stays as it was."""
    plain = small_plan(f"{STAGE}.exit.steps=4", "checkpoint.every_rounds=1")
    whole, _ = make_jobs(plain, tmp_path / "whole")
    run(whole)
    plan = small_plan(
        *(f"{STAGE}.exit.steps=4", "checkpoint.every_rounds=1"),
        f"{STAGE}.caps.max_trained_tokens=4000",
    )
    paths = RunPaths(tmp_path / "run")
    state = LoopState()
    for _ in range(2):
        jobs, learner = make_jobs(with_caps(plan, paths.set_caps), paths.run_dir)
        learner.version = state.version
        with pytest.raises(E3Error, match=r"--set curriculum.stages.easy.caps.max_trained_tokens="):
            run(jobs, state)
        state = read_state(newest_state(paths))
    append_caps(paths.set_caps, parse_caps(plan, [f"{STAGE}.caps.max_trained_tokens=100k"]))
    jobs, learner = make_jobs(with_caps(plan, paths.set_caps), paths.run_dir)
    learner.version = state.version
    ended = run(jobs, state)
    assert finished(paths.run_dir, "easy")["reason"] == "steps"
    assert ended.ledger_of("easy").trained.tokens > 4000
    assert batches(paths.run_dir) == batches(tmp_path / "whole")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("loss.kl=null", "only caps can be set"),
        ("curriculum.stages.other.caps.max_trained_tokens=1", "only caps can be set"),
        ("curriculum.caps.max_tokens=5", "the caps are max_generated_tokens"),
        ("curriculum.caps.max_trained_tokens=-5", "a number of tokens or null"),
    ],
)
def test_nothing_but_caps_is_set_by_a_resume(word: str, message: str) -> None:
    with pytest.raises(E3Error, match=message):
        parse_caps(small_plan(), [word])
    assert parse_caps(small_plan(), ["curriculum.caps.max_trained_tokens=2k"]) == {
        "curriculum.caps.max_trained_tokens": 2048
    }


def test_the_ledger_is_written_for_each_stage_and_sums_to_the_run(tmp_path: Path) -> None:
    jobs, _ = make_jobs(small_plan(), tmp_path)
    run(jobs)
    last = events(tmp_path, "ledger")[-1]
    stages = last["stages"]
    assert isinstance(stages, dict)
    assert set(stages) == {"warmup", "easy", "hard"}
    for kind in ("generated", "trained", "evaluated", "supervised", "truncated"):
        total = last[kind]
        assert isinstance(total, dict)
        assert total["tokens"] == sum(each[kind]["tokens"] for each in stages.values())


def test_a_state_survives_its_json(tmp_path: Path) -> None:
    jobs, _ = make_jobs(small_plan(), tmp_path)
    state = run(jobs)
    (tmp_path / "state.json").write_text(state_to_json(state))
    assert read_state(tmp_path / "state.json") == state


TWO_GRIDS = ("layout.learner.tp=2", "curriculum.stages.hard.layout.learner={tp: 1, dp: 2}")


def test_another_grid_gets_a_learner_of_its_own_at_the_boundary(tmp_path: Path) -> None:
    """The learner before it leaves after the stage's checkpoint; batches are packed for dp 2."""
    plan = small_plan(*TWO_GRIDS)
    assert [stage.segment for stage in plan.stages] == [0, 0, 1]
    jobs, first = make_jobs(plan, tmp_path)
    learners: dict[int, FakeLearner] = {}

    def open_learner(segment: int) -> FakeLearner:
        learners[segment] = FakeLearner(jobs.paths, first.servers, version=first.version)
        return learners[segment]

    jobs.open_learner = open_learner
    state = run(jobs)
    assert [command.kind for command in first.commands[-2:]] != [CommandKind.EXPORT] * 2
    assert first.commands[-1].kind is CommandKind.STOP
    before = [command.kind for command in first.commands if command.kind is not CommandKind.SCORE]
    assert before[-3:-1] == [CommandKind.SYNC, CommandKind.CHECKPOINT]
    assert [command.kind for command in learners[1].commands[-2:]] == [
        CommandKind.EXPORT,
        CommandKind.STOP,
    ]
    assert {command.stage for command in learners[1].commands if command.stage} == {"hard"}
    for path in (tmp_path / "batches" / "hard").glob("*.safetensors"):
        assert len(read_batch(path).tokens_NT) % 2 == 0
    (change,) = events(tmp_path, "grid_changed")
    assert (change["stage"], change["version"]) == ("hard", first.version)
    assert state.version == learners[1].version


@pytest.mark.parametrize("kill_after", [58, 62, 66, 70])
def test_a_kill_in_the_middle_of_a_transition_changes_nothing(
    tmp_path: Path, kill_after: int
) -> None:
    """Killed while a stage is measured, the next budget decided, or its first round sampled."""
    plan = small_plan(*TWO_GRIDS)
    whole, _ = make_jobs(plan, tmp_path / "whole")
    final = run(whole)
    killed, learner = make_jobs(plan, tmp_path / "killed")
    learner.servers[0].kill_after = kill_after
    with pytest.raises(Killed):
        run(killed)
    state = read_state(newest_state(killed.paths))
    assert state.is_stage_finished and state.stage_index == 1
    resumed, learner = make_jobs(plan, tmp_path / "killed")
    learner.version = state.version
    ended = run(resumed, state)
    assert batches(tmp_path / "killed") == batches(tmp_path / "whole")
    for name in ("generated", "trained", "evaluated", "discarded", "truncated"):
        assert getattr(ended.ledger, name) == getattr(final.ledger, name)
    ended.ledger.check(is_drained=True)
    decisions = [events(tmp_path / name, "budget_decision")[-1] for name in ("killed", "whole")]
    assert len({str({**each, "time": 0}) for each in decisions}) == 1
