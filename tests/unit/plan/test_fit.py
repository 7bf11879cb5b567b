"""What does not fit is refused with by how much, and every change that it proposes fits."""

import re
from pathlib import Path

import pytest

from e3mega.errors import Problem, SpecError
from e3mega.plan.compile import checked_plan
from tests.spec_cases import resolved

RUN = """include: [runs/quickstart]
model:
  num_layers: 36
  hidden_size: 4096
  num_heads: 32
  num_kv_heads: 8
  head_dim: 128
  ffn_size: 12288
  vocab_size: 151936
  max_context_tokens: 40960
  precision: bfloat16
layout:
  learner: {device: gpu, dp: 8}
  generation: {device: gpu, num_replicas: 2}
rollout: {packed_tokens: 24k}
curriculum: {stages: {easy: {budget: {tokens: 12k}}}}
"""


def misfit(tmp_path: Path, *sets: str) -> Problem:
    with pytest.raises(SpecError) as caught:
        checked_plan(resolved(tmp_path, RUN, sets=sets))
    (problem,) = caught.value.problems
    assert "\n" not in str(problem)
    return problem


def gib(text: str) -> float:
    return float(text) * 2**30


def test_a_learner_that_is_too_full_says_by_how_much(tmp_path: Path) -> None:
    problem = misfit(tmp_path)
    assert problem.where == f"{tmp_path}/run.yaml:13"
    assert problem.key == "layout.learner"
    total = gib(re.findall(r"^([\d.]+) GiB on rank 0", problem.got)[0])
    room = gib(re.findall(r"at most ([\d.]+) GiB of a device \(h100\)", problem.need)[0])
    over = gib(re.findall(r"^([\d.]+) GiB too much", problem.fix)[0])
    assert total - room == pytest.approx(over, abs=gib("0.11"))
    assert room == pytest.approx(80e9 * 0.94, abs=gib("0.05"))
    parts = re.findall(r"(\w[\w ]*) ([\d.]+) (GiB|MiB)", problem.got.split("(")[1])
    assert [name for name, _, _ in parts][:4] == ["weight", "gradient", "optimizer", "activation"]
    summed = sum(float(size) * (2**30 if unit == "GiB" else 2**20) for _, size, unit in parts)
    assert summed == pytest.approx(total, rel=0.01)


def test_every_change_that_is_proposed_makes_it_fit(tmp_path: Path) -> None:
    fix = misfit(tmp_path).fix.split("it fits with ")[1]
    changes = fix.split(" or ")
    kinds = {change.split(":")[0] for change in changes}
    assert {"recompute", "tp", "cp"} <= kinds
    for change in changes:
        pairs = re.findall(r"([\w.]+): (\w+)", change)
        keys = [key if "." in key else f"layout.learner.{key}" for key, _ in pairs]
        sets = [f"{key}={value}" for key, (_, value) in zip(keys, pairs, strict=True)]
        plan = checked_plan(resolved(tmp_path, RUN, sets=tuple(sets)))
        assert plan.estimates.ranks, change


def test_a_stage_whose_own_grid_is_too_full_is_named(tmp_path: Path) -> None:
    fits = ("layout.learner.tp=8", "layout.learner.dp=1", "layout.learner.sequence_parallel=true")
    own = "curriculum.stages.hard.layout.learner"
    narrow = (f"{own}.tp=1", f"{own}.dp=8", f"{own}.sequence_parallel=false")
    assert checked_plan(resolved(tmp_path, RUN, sets=fits)).stages
    problem = misfit(tmp_path, *fits, *narrow)
    assert problem.key == own
    assert "--set curriculum.stages.hard.layout.learner." in problem.where
    change = re.findall(r"it fits with .*?tp: (\d+) \(with dp: (\d+)", problem.fix)[0]
    assert int(change[0]) * int(change[1]) == 8
    wider = (f"{own}.tp={change[0]}", f"{own}.dp={change[1]}", f"{own}.sequence_parallel=true")
    assert checked_plan(resolved(tmp_path, RUN, sets=(*fits, *wider))).stages


def test_what_only_fits_with_recomputation_is_proposed_with_it(tmp_path: Path) -> None:
    fix = misfit(tmp_path, "model.num_layers=120", "layout.learner.dp=64").fix
    assert "it fits with recompute: full and tp: " in fix


def test_a_server_without_room_for_one_request_is_refused(tmp_path: Path) -> None:
    sets = ("layout.learner.tp=8", "layout.learner.sequence_parallel=true")
    sets += ("layout.learner.recompute=full", "model.num_layers=176", "layout.learner.pp=8")
    problem = misfit(tmp_path, *sets)
    assert problem.key == "layout.generation.tp"
    assert "room for one request of" in problem.need
    assert problem.fix == "it fits with tp: 2"
    assert checked_plan(resolved(tmp_path, RUN, sets=(*sets, "layout.generation.tp=2")))


def test_cpus_are_not_checked(tmp_path: Path) -> None:
    plan = checked_plan(resolved(tmp_path, "include: [runs/quickstart]\n"))
    assert plan.estimates.device_bytes == 0


def test_the_matrix_that_selects_tokens_is_counted_and_refused(tmp_path: Path) -> None:
    """One group's matrix and the LM head in fp32, of 151,936 rows over two tp ranks."""
    sets = ("rollout.packed_tokens=160", "curriculum.stages.easy.budget.tokens=64")
    sets += ("model.num_layers=38",)
    selects, dp1 = "loss.sign.negative.tokens={kind: nthr}", "layout.learner.dp=1"
    fits = checked_plan(resolved(tmp_path, RUN, sets=(*sets, dp1)))
    assert fits.estimates.ranks[0].selection_bytes == 0
    problem = misfit(tmp_path, *sets, dp1, selects)
    assert "selection 2.3 GiB" in problem.got and "activation" not in problem.got
    plan = checked_plan(resolved(tmp_path, RUN, sets=(*sets, selects)))
    (rank, *_) = plan.estimates.ranks
    assert rank.selection_bytes == 2 * 75_968 * 4_096 * 4 > rank.activation_bytes
    assert rank.host_hidden_bytes > 0
