"""Dynamic sampling drops groups of equal rewards, refills, and counts what it dropped."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast
from zlib import crc32

import numpy as np
import pytest

from e3mega.loop.jobs import Jobs
from e3mega.loop.state import LoopState, read_state
from e3mega.plan.planfile import Plan
from e3mega.rollout.batch_file import read_batch
from e3mega.rollout.ledger import DiscardReason
from e3mega.rollout.rows import read_groups
from e3mega.tasks.interface import Marks, Prompt, Task
from tests.fakes import Killed, newest_state
from tests.unit.loop.test_controller import batches, events, make_jobs, run, small_plan


class Lucky:
    """The task, but half the problems are never solved, and the others by a draw per sample."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> object:
        return getattr(self._task, name)

    async def judge(self, prompt: Prompt, token_ids: Sequence[int]) -> Marks:
        is_open = crc32(prompt.problem.encode()) % 2
        is_hit = crc32(str(token_ids).encode()) % 2
        return replace(self._task.mark(prompt, token_ids), reward=float(is_open * is_hit))


def with_luck(jobs: Jobs) -> Jobs:
    jobs.tasks = tuple(cast("Task", Lucky(task)) for task in jobs.tasks)
    return jobs


STAGE = "curriculum.stages.easy"
LOSS = f"{STAGE}.loss"


def refilling_plan(*settings: str) -> Plan:
    return small_plan(
        "checkpoint.every_rounds=1",
        "rollout.samples_per_prompt=2",
        f"{LOSS}.dynamic_sampling.max_refills=2",
        *settings,
    )


def groups_of(run_dir: Path, purpose: str) -> list[bool]:
    """Of each group that was sampled, whether its rewards differ."""
    paths = sorted((run_dir / "rollouts" / purpose / "easy").glob("*.parquet"))
    groups = [group for path in paths for group in read_groups(path)]
    return [len({r.marks.reward for r in group.rollouts}) > 1 for group in groups]


def test_mixed_groups_are_trained_on_and_the_others_counted(tmp_path: Path) -> None:
    plan = refilling_plan()
    jobs, _ = make_jobs(plan, tmp_path)
    state = run(with_luck(jobs))
    sampled = groups_of(tmp_path, "train") + groups_of(tmp_path, "refill")
    steps = sorted((tmp_path / "batches" / "easy").glob("*.safetensors"))
    num_places = len(steps) * plan.stages[1].rollout.prompts_per_step
    assert len(groups_of(tmp_path, "train")) == num_places
    assert len(groups_of(tmp_path, "refill")) > 0
    dropped = state.ledger.discarded[DiscardReason.FLAT]
    assert dropped.rollouts == 2 * (len(sampled) - num_places)
    state.ledger.check(is_drained=True)
    num_flat = 0
    for path in steps:
        batch = read_batch(path)
        for group in range(plan.stages[1].rollout.prompts_per_step):
            inside = batch.groups_NT == group
            assert inside.any(), "a step keeps its size"
            num_flat += not np.any(batch.advantages_NT[inside])
    assert num_flat == max(0, num_places - sum(sampled))
    assert num_flat < sampled[:num_places].count(False), "refills replaced some"


@pytest.mark.parametrize("kill_after", [18, 26, 34, 44])
def test_a_killed_refill_goes_on_to_the_same_batches(tmp_path: Path, kill_after: int) -> None:
    plan = refilling_plan("rollout.max_lag=1", "loss.correction.kind=truncated")
    whole, _ = make_jobs(plan, tmp_path / "whole")
    final = run(with_luck(whole))
    killed, learner = make_jobs(plan, tmp_path / "killed")
    learner.servers[0].kill_after = kill_after
    with pytest.raises(Killed):
        run(with_luck(killed))
    resumed, learner = make_jobs(plan, tmp_path / "killed")
    has_checkpoint = resumed.paths.checkpoints.exists()
    state = read_state(newest_state(resumed.paths)) if has_checkpoint else LoopState()
    learner.version = state.version
    ended = run(with_luck(resumed), state)
    assert batches(tmp_path / "killed") == batches(tmp_path / "whole")
    for name in ("generated", "trained", "discarded", "truncated"):
        assert getattr(ended.ledger, name) == getattr(final.ledger, name)


@pytest.mark.parametrize("max_lag", [0, 2])
def test_spares_that_no_refill_needed_come_later(tmp_path: Path, max_lag: int) -> None:
    """Every prompt of a limited part is sampled once; less than a step of them is left."""
    settings = ["task.held_out_frac=0.9", f"{STAGE}.exit={{kind: steps, steps: 60}}"]
    if max_lag:
        settings += [f"rollout.max_lag={max_lag}", "loss.correction.kind=truncated"]
    plan = refilling_plan(*settings, f"{STAGE}.data.parts={{once: {{max_repeats: 1}}}}")
    jobs, _ = make_jobs(plan, tmp_path)
    run(with_luck(jobs))
    paths = [*tmp_path.glob("rollouts/train/easy/*"), *tmp_path.glob("rollouts/refill/easy/*")]
    sampled = [group.request.prompt.problem for path in paths for group in read_groups(path)]
    assert len(sampled) == len(set(sampled))
    left = jobs.tasks[1].num_training - len(sampled)
    assert 0 <= left < plan.stages[1].rollout.prompts_per_step
    ended = next(e for e in events(tmp_path, "stage_finished") if e["stage"] == "easy")
    assert ended["reason"] == "data"
