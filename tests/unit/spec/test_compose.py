"""Which value wins follows from who includes whom, never from the order of includes."""

from pathlib import Path

import pytest

from e3mega.spec.compose import compose
from tests.spec_cases import composed, conflicts, merged, write_library


def test_a_file_overrides_what_it_includes(tmp_path: Path) -> None:
    files = {
        "loss/low": "loss: {clip_low: 0.1, clip_high: 0.1}",
        "loss/high": "include: [loss/low]\nloss: {clip_high: 0.5}",
        "runs/a": "include: [loss/high]\nloss: {clip_low: 0.3}",
    }
    assert merged(tmp_path, files)["loss"] == {"clip_low": 0.3, "clip_high": 0.5}


def test_an_included_file_may_stand_beside_its_includer(tmp_path: Path) -> None:
    files = {
        "loss/low": "loss: {clip_low: 0.1}",
        "loss/high": "include: [loss/low]\nloss: {clip_low: 0.5}",
    }
    for order in ("[loss/low, loss/high]", "[loss/high, loss/low]"):
        tree = merged(tmp_path, {**files, "runs/a": f"include: {order}"})
        assert tree["loss"] == {"clip_low": 0.5}


def test_two_fragments_that_disagree_are_refused_with_both_places(tmp_path: Path) -> None:
    files = {
        "loss/x": "loss:\n  clip_low: 0.1",
        "loss/y": "# y\nloss:\n  clip_low: 0.2",
        "runs/a": "include: [loss/x, loss/y]",
    }
    (problem,) = conflicts(tmp_path, files)
    assert problem.key == "loss.clip_low"
    assert "specs/fragments/loss/x.yaml:2" in str(problem)
    assert "specs/fragments/loss/y.yaml:3" in str(problem)


def test_a_file_above_settles_a_disagreement(tmp_path: Path) -> None:
    files = {
        "loss/x": "loss: {clip_low: 0.1}",
        "loss/y": "loss: {clip_low: 0.2}",
        "runs/a": "include: [loss/x, loss/y]\nloss: {clip_low: 0.4}",
    }
    assert merged(tmp_path, files)["loss"]["clip_low"] == 0.4


def test_a_diamond_counts_its_bottom_once(tmp_path: Path) -> None:
    files = {
        "loss/bottom": "loss: {clip_low: 0.1, clip_high: 0.1}",
        "loss/left": "include: [loss/bottom]\nloss: {clip_low: 0.2}",
        "loss/right": "include: [loss/bottom]\nloss: {clip_high: 0.3}",
        "runs/a": "include: [loss/left, loss/right]",
    }
    assert merged(tmp_path, files)["loss"] == {"clip_low": 0.2, "clip_high": 0.3}


def test_equality_is_judged_after_typing(tmp_path: Path) -> None:
    files = {
        "a/x": "rollout: {packed_tokens: 8k}\nloss: {clip_low: 1}",
        "a/y": "rollout: {packed_tokens: 8192}\nloss: {clip_low: 1.0}",
        "runs/a": "include: [a/x, a/y]",
    }
    assert conflicts(tmp_path, files) == []


def test_interpolations_agree_only_as_text(tmp_path: Path) -> None:
    files = {
        "a/x": "loss: {clip_low: '${loss.clip_high}', clip_high: 0.2}",
        "a/y": "loss: {clip_low: 0.2}",
        "runs/a": "include: [a/x, a/y]",
    }
    (problem,) = conflicts(tmp_path, files)
    assert problem.key == "loss.clip_low"


def test_one_fragment_stands_in_two_stages(tmp_path: Path) -> None:
    files = {
        "budget/short": "budget: {kind: fixed, tokens: 64}",
        "runs/a": "include:\n"
        "  curriculum.stages.one: [budget/short]\n"
        "  curriculum.stages.two: [budget/short]\n"
        "curriculum: {stages: {two: {budget: {tokens: 128}}}}",
    }
    stages = merged(tmp_path, files)["curriculum"]["stages"]
    assert stages["one"]["budget"] == {"kind": "fixed", "tokens": 64}
    assert stages["two"]["budget"] == {"kind": "fixed", "tokens": 128}


def test_includes_of_a_mounted_fragment_are_relative_to_its_mount(tmp_path: Path) -> None:
    files = {
        "budget/short": "budget: {kind: fixed, tokens: 64}",
        "stage/x": "include: {.: [budget/short]}\nmode: rl",
        "runs/a": "include: {curriculum.stages.one: [stage/x]}",
    }
    stage = merged(tmp_path, files)["curriculum"]["stages"]["one"]
    assert stage["budget"]["tokens"] == 64


def test_a_stage_lies_over_the_run(tmp_path: Path) -> None:
    files = {
        "runs/a": "optimizer: {learning_rate: 1e-6, beta1: 0.8}\n"
        "curriculum: {stages: {one: {mode: rl, optimizer: {learning_rate: 1e-5}}}}"
    }
    stage = merged(tmp_path, files)["curriculum"]["stages"]["one"]
    assert stage["optimizer"] == {"learning_rate": 1e-5, "beta1": 0.8}


def test_replace_is_an_ablation_of_the_loss(tmp_path: Path) -> None:
    files = {
        "loss/grpo": "loss: {advantage: group_mean_std, clip_low: 0.3}",
        "loss/nsr": "loss: {positive_weight: 0.0}",
        "runs/base": "include: [loss/grpo]\nname: base\nloss: {clip_high: 0.28}",
        "runs/a": "include: [runs/base]\nreplace: {loss: [loss/nsr]}\nname: a",
    }
    tree = merged(tmp_path, files)
    assert tree["loss"] == {"positive_weight": 0.0}
    assert tree["name"] == "a"


def test_replace_by_what_was_there_keeps_it_but_drops_changes_above_it(tmp_path: Path) -> None:
    files = {
        "loss/grpo": "loss: {clip_low: 0.3}",
        "runs/base": "include: [loss/grpo]\nloss: {clip_low: 0.4, clip_high: 0.5}",
        "runs/a": "include: [runs/base]\nreplace: {loss: [loss/grpo]}",
    }
    assert merged(tmp_path, files)["loss"] == {"clip_low": 0.3}


def test_a_file_above_a_replacement_changes_it(tmp_path: Path) -> None:
    files = {
        "loss/grpo": "loss: {clip_low: 0.3}",
        "loss/nsr": "loss: {positive_weight: 0.0}",
        "runs/b": "include: [loss/grpo]\nreplace: {loss: [loss/nsr]}",
        "runs/a": "include: [runs/b]\nloss: {clip_low: 0.1}",
    }
    assert merged(tmp_path, files)["loss"] == {"positive_weight": 0.0, "clip_low": 0.1}


def test_a_supervised_stage_inherits_nothing_from_the_loss_it_replaces(tmp_path: Path) -> None:
    files = {
        "loss/grpo": "loss: {advantage: group_mean_std, clip_low: 0.3}",
        "loss/sft": "loss: {advantage: constant, ratio: none}",
        "stage/warmup": "replace: {loss: [loss/sft]}\nmode: supervised",
        "runs/a": "include: {.: [loss/grpo], curriculum.stages.warmup: [stage/warmup]}\n"
        "loss: {clip_high: 0.28}",
    }
    tree = merged(tmp_path, files)
    assert tree["loss"] == {"advantage": "group_mean_std", "clip_low": 0.3, "clip_high": 0.28}
    warmup = tree["curriculum"]["stages"]["warmup"]
    assert warmup["loss"] == {"advantage": "constant", "ratio": "none"}


def test_null_drops_what_lower_files_set_inside(tmp_path: Path) -> None:
    files = {
        "generation/x": "generation: {server_args: {seed: 1, block_size: 16}}",
        "runs/b": "include: [generation/x]\ngeneration: {server_args: null}",
        "runs/a": "include: [runs/b]\ngeneration: {server_args: {seed: 2}}",
    }
    assert merged(tmp_path, files)["generation"] == {"server_args": {"seed": 2}}


def test_null_and_keys_inside_from_unrelated_files_conflict(tmp_path: Path) -> None:
    files = {
        "generation/x": "generation: {server_args: {seed: 1}}",
        "generation/y": "generation: {server_args: null}",
        "runs/a": "include: [generation/x, generation/y]",
    }
    (problem,) = conflicts(tmp_path, files)
    assert problem.key == "generation.server_args.seed"


def test_null_in_a_stage_switches_off_what_it_would_inherit(tmp_path: Path) -> None:
    files = {
        "runs/a": "loss: {dual_clip: 4.0}\n"
        "curriculum: {stages: {one: {mode: rl, loss: {dual_clip: null}}}}"
    }
    assert merged(tmp_path, files)["curriculum"]["stages"]["one"]["loss"] == {"dual_clip": None}


def test_a_kind_stated_anew_drops_the_keys_of_the_lower_kind(tmp_path: Path) -> None:
    files = {
        "budget/fixed": "budget: {kind: fixed, tokens: 64}",
        "budget/more": "include: [budget/fixed]\nbudget: {tokens: 96}",
        "budget/free": "budget: {kappa: 1.1}",
        "runs/a": "include: {curriculum.stages.one: [budget/more, budget/free]}\n"
        "curriculum: {stages: {one: {budget: {kind: coupled, candidates: [64]}}}}",
    }
    budget = merged(tmp_path, files)["curriculum"]["stages"]["one"]["budget"]
    assert budget == {"kind": "coupled", "candidates": [64], "kappa": 1.1}


def test_a_stage_of_another_kind_inherits_no_key_of_the_run_s_kind(tmp_path: Path) -> None:
    files = {
        "task/a": "task: {kind: countdown, num_numbers: 4}",
        "runs/a": "include: [task/a]\ntask: {trace_hit_frac: 0.25}\n"
        "curriculum: {stages: {one: {task: {kind: other, digits: 5}}}}",
    }
    tree = merged(tmp_path, files)
    assert tree["curriculum"]["stages"]["one"]["task"] == {"kind": "other", "digits": 5}
    assert tree["task"]["num_numbers"] == 4


def test_the_command_line_lies_over_all_files(tmp_path: Path) -> None:
    files = {"loss/x": "loss: {clip_low: 0.1}", "runs/a": "include: [loss/x]\nseed: 2"}
    sets = ("loss.clip_low=0.25", "seed=7", "evaluation.budgets=[1, 2k]", "loss.dual_clip=null")
    tree = merged(tmp_path, files, sets=sets)
    assert tree["loss"] == {"clip_low": 0.25, "dual_clip": None}
    assert tree["seed"] == 7
    assert tree["evaluation"]["budgets"] == [1, "2k"]


def test_the_command_line_lies_over_set_files_and_they_over_the_spec(tmp_path: Path) -> None:
    files = {"runs/a": "seed: 1\nname: a", "site/x": "seed: 2\nname: b\nloss: {clip_low: 0.1}"}
    library = write_library(tmp_path, files)
    problems: list = []
    composition = compose(
        library / "runs/a.yaml",
        problems.append,
        sets=("name=c",),
        set_files=(library / "fragments/site/x.yaml",),
        library=library,
    )
    assert problems == []
    assert (composition.tree["seed"], composition.tree["name"]) == (2, "c")


def test_a_key_twice_on_the_command_line_is_refused(tmp_path: Path) -> None:
    found = conflicts(tmp_path, {"runs/a": "seed: 1"}, sets=("seed=2", "seed=2"))
    assert any("twice on the command line" in problem.got for problem in found)


def test_interpolations_follow_other_keys(tmp_path: Path) -> None:
    files = {
        "runs/a": "evaluation: {pass_budget_tokens: '${.budgets.1}', budgets: [64, 128]}\n"
        "seed: ${logging.num_report_rollouts}\nlogging: {num_report_rollouts: 3}"
    }
    tree = merged(tmp_path, files)
    assert tree["evaluation"]["pass_budget_tokens"] == 128
    assert tree["seed"] == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${mul:${rollout.packed_tokens},2}", 16384),
        ("${div:${rollout.packed_tokens},2}", 4096),
        ("${div:3,2}", 1.5),
        ("${add:1k,1}", 1025),
        ("${min:3,0.5}", 0.5),
        ("${max:${add:1,1},${mul:3,4}}", 12),
    ],
)
def test_resolvers_compute_with_numbers_and_token_counts(
    tmp_path: Path, text: str, value: float
) -> None:
    files = {"runs/a": f"rollout: {{packed_tokens: 8k}}\nseed: '{text}'"}
    tree = merged(tmp_path, files)
    assert tree["seed"] == value
    assert type(tree["seed"]) is type(value)


def test_every_value_knows_its_place(tmp_path: Path) -> None:
    files = {
        "loss/x": "\nloss: {clip_low: 0.1}",
        "runs/a": "include: [loss/x]\nseed: 2\ncurriculum: {stages: {one: {mode: rl}}}",
    }
    composition, _ = composed(tmp_path, files, sets=("name=z",))
    stage = ("curriculum", "stages", "one", "loss", "clip_low")
    assert str(composition.place(("loss", "clip_low"))) == "specs/fragments/loss/x.yaml:2"
    assert str(composition.place(stage)) == "specs/fragments/loss/x.yaml:2"
    assert str(composition.place(("seed",))) == "specs/runs/a.yaml:2"
    assert str(composition.place(("name",))) == "--set name=z"


def test_a_cycle_is_named_with_its_chain(tmp_path: Path) -> None:
    files = {
        "a/x": "include: [a/y]",
        "a/y": "include: {loss: [a/x]}",
        "runs/a": "include: [a/x]",
    }
    (problem,) = conflicts(tmp_path, files)
    chain = " -> ".join(
        f"specs/{name}.yaml"
        for name in ("runs/a", "fragments/a/x", "fragments/a/y", "fragments/a/x")
    )
    assert chain in problem.got


def test_a_missing_fragment_is_named_with_its_line_chain_and_nearest(tmp_path: Path) -> None:
    files = {
        "loss/grpo": "loss: {clip_low: 0.1}",
        "a/x": "seed: 1\ninclude:\n  - loss/grpo\n  - loss/gripo\n",
        "runs/a": "include: [a/x]",
    }
    (problem,) = conflicts(tmp_path, files)
    assert problem.where == "specs/fragments/a/x.yaml:4"
    assert "specs/runs/a.yaml -> specs/fragments/a/x.yaml" in problem.got
    assert problem.fix == "did you mean loss/grpo?"


def test_a_relative_include_starts_at_its_file(tmp_path: Path) -> None:
    files = {"runs/a": "include: [./more/b]", "runs/more/b": "seed: 9"}
    assert merged(tmp_path, files)["seed"] == 9
