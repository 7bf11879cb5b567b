"""A plan holds what its jobs need, derived for every budget that a stage may take."""

from pathlib import Path

import pytest

from e3mega.curriculum.allowance import possible_budgets
from e3mega.errors import SpecError
from e3mega.families.geometry import Precision
from e3mega.plan.compile import compile_plan, sync_bytes
from e3mega.plan.jobs import NUM_RANKS, SEGMENT
from e3mega.plan.planfile import Plan, Role, learner_plan
from tests.spec_cases import resolved

RUN = "include: [runs/quickstart]\n"
PROMPT = 7
"""Tokens of a three-number prompt."""


def planned(tmp_path: Path, *sets: str, text: str = RUN) -> Plan:
    return compile_plan(resolved(tmp_path, text, sets=sets).options)


def test_the_same_spec_gives_the_same_plan(tmp_path: Path) -> None:
    assert planned(tmp_path) == planned(tmp_path)


def test_each_candidate_has_its_numbers(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "curriculum.stages.hard.budget.candidates=[16, 32, 96]",
        "rollout.packed_tokens=256",
    )
    hard = plan.stages[2]
    assert [budget.tokens for budget in hard.budgets] == [16, 32, 96]
    for budget in hard.budgets:
        assert budget.max_sequence_tokens == PROMPT + budget.tokens
        full = budget.max_sequence_tokens
        assert budget.sequences_per_bin * full <= 256 < (budget.sequences_per_bin + 1) * full


@pytest.mark.parametrize(
    ("sets", "longest"),
    [
        ((), 256),
        (("evaluation.budgets=[32]",), 256),
        (("evaluation.budgets=[32]", "curriculum.stages.hard.budget.candidates=[64, 100]"), 200),
        (("evaluation.budgets=[32]", "evaluation.pass_budget_tokens=400"), 400),
        (("evaluation.budgets=[32, 300]",), 300),
        (("curriculum.stages.easy.budget.tokens=450",), 450),
        (("curriculum.stages.warmup.budget.tokens=500",), 256),
    ],
)
def test_servers_hold_the_longest_request(
    tmp_path: Path, sets: tuple[str, ...], longest: int
) -> None:
    server = planned(tmp_path, *sets).server
    assert server.max_model_len == PROMPT + longest
    assert server.max_num_batched_tokens >= server.max_model_len
    assert server.max_num_batched_tokens >= server.max_num_seqs


def test_prefill_admits_all_sequences_at_once_within_its_bound(tmp_path: Path) -> None:
    few = planned(tmp_path, "generation.max_num_seqs=100").server
    assert few.max_num_batched_tokens == 100 * PROMPT
    many = planned(tmp_path, "generation.max_num_seqs=4000").server
    assert many.max_num_batched_tokens == 8192


def test_test_budgets_beyond_the_context_are_cut_and_listed(tmp_path: Path) -> None:
    plan = planned(tmp_path, "evaluation.budgets=[64, 505, 506, 1k]")
    assert all(stage.evaluation.budgets == (64, 505) for stage in plan.stages)
    assert len(plan.warnings) == 3
    assert "[506, 1024]" in plan.warnings[0] and "512" in plan.warnings[0]
    assert plan.server.max_model_len == 512


def test_a_lag_that_the_tier_cannot_hold_is_warned_of(tmp_path: Path) -> None:
    sets = ("rollout.max_lag=2", "loss.correction={kind: truncated}")
    narrow = planned(tmp_path, *sets).warnings
    assert len(narrow) == 3 and all("rollout.max_lag = 2 is never reached" in w for w in narrow)
    assert planned(tmp_path, *sets, "generation.max_num_seqs=768").warnings == ()


def test_jobs_are_the_servers_the_learner_and_the_loop(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "layout.generation.num_replicas=2",
        "layout.generation.threads_per_replica=3",
        "layout.learner.pp=3",
        "layout.learner.dp=2",
    )
    assert [job.name for job in plan.jobs] == ["generation_0", "generation_1", "learner", "loop"]
    assert [job.role for job in plan.jobs] == [
        Role.GENERATION,
        Role.GENERATION,
        Role.LEARNER,
        Role.LOOP,
    ]
    assert [job.argv[-1] for job in plan.jobs[2:]] == ["0", "{attempt}"]
    assert [job.argv[-2:] for job in plan.jobs[:2]] == [("0", "{address}"), ("1", "{address}")]
    assert plan.jobs[1].argv[-3] == "{run_dir}"
    assert plan.jobs[1].env["OMP_NUM_THREADS"] == "3"
    assert "--nproc-per-node=12" in plan.jobs[2].argv
    assert [job.num_devices for job in plan.jobs] == [0, 0, 0, 0]


def test_gpu_jobs_ask_for_devices(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "layout.learner.device=gpu",
        "layout.generation.device=gpu",
        "layout.generation.tp=4",
        "model.precision=bfloat16",
    )
    assert [job.num_devices for job in plan.jobs] == [4, 2, 0]


def test_a_sync_sends_every_parameter_once(tmp_path: Path) -> None:
    model = resolved(tmp_path, RUN).options.model
    assert sync_bytes(model) == 4 * 607_296
    half = model.model_copy(update={"precision": Precision.BFLOAT16, "ties_embeddings": False})
    assert sync_bytes(half) == 2 * (607_296 + 128 * 128)


def test_a_fixed_budget_is_its_only_candidate(tmp_path: Path) -> None:
    stages = resolved(tmp_path, RUN).options.curriculum.stages
    assert possible_budgets(stages["easy"].budget) == (64,)
    assert possible_budgets(stages["hard"].budget) == (64, 128)


def test_stages_with_other_grids_are_segments_started_one_after_the_other(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "layout.learner.tp=2",
        "curriculum.stages.hard.layout.learner.tp=1",
        "curriculum.stages.hard.layout.learner.dp=3",
    )
    assert [stage.segment for stage in plan.stages] == [0, 0, 1]
    assert [learner_plan(plan, segment).layout.learner.dp for segment in (0, 1)] == [1, 3]
    learner = next(job for job in plan.jobs if job.role is Role.LEARNER)
    assert learner.argv[2] == "e3mega.learner.segments"
    assert {f"--nproc-per-node={NUM_RANKS}", SEGMENT} <= set(learner.argv)


def test_a_grid_that_one_stage_cannot_have_is_named_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"curriculum.stages.hard.layout.learner.tp: got 3; need"):
        planned(tmp_path, "curriculum.stages.hard.layout.learner.tp=3")
    with pytest.raises(SpecError, match=r"stages.hard.layout.generation.*as for all stages"):
        planned(tmp_path, "curriculum.stages.hard.layout.generation.num_replicas=2")


def test_the_overlong_buffer_follows_the_budget(tmp_path: Path) -> None:
    plan = planned(tmp_path, "loss.sign.truncated={kind: soft_penalty, buffer_frac: 0.25}")
    buffers = [[b.overlong_buffer_tokens for b in stage.budgets] for stage in plan.stages]
    assert buffers == [[0.0], [16.0], [16.0, 32.0]]


def test_each_grid_has_the_memory_of_its_own_ranks(tmp_path: Path) -> None:
    plan = planned(tmp_path, "curriculum.stages.hard.layout.learner={tp: 1, dp: 1, pp: 3}")
    first, second = plan.estimates.segments
    assert (first.stages, len(first.ranks)) == (("warmup", "easy"), 2)
    assert (second.stages, len(second.ranks)) == (("hard",), 3)
    assert sum(rank.weight_bytes for rank in second.ranks) > plan.sync_bytes, "a copy of the head"
    assert plan.estimates.ranks in (first.ranks, second.ranks)
