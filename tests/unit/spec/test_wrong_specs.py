"""Every kind of wrong spec is named with where, what, need and fix; all of them together."""

from pathlib import Path

import pytest

from e3mega.cli import main
from tests.spec_cases import problems_of

RUN = "include: [runs/quickstart]\nname: wrong\n"

# text below RUN, the line of the problem, its key, words of it
WRONG: dict[str, tuple[str, int, str, tuple[str, ...]]] = {
    "section": ("layot: {}", 3, "layot", ("unknown key", "did you mean layout?")),
    "key": (
        "rollout:\n  prompts_per_stp: 4",
        4,
        "rollout.prompts_per_stp",
        ("did you mean prompts_per_step?",),
    ),
    "deep key": ("layout: {learner: {tpp: 2}}", 3, "layout.learner.tpp", ("did you mean tp?",)),
    "key of another section": (
        "learning_rate: 1e-5",
        3,
        "learning_rate",
        ("did you mean optimizer.learning_rate?",),
    ),
    "key in a stage": (
        "curriculum:\n  stages:\n    easy:\n      task: {haf: easy}",
        6,
        "curriculum.stages.easy.task.haf",
        ("did you mean half?",),
    ),
    "section a stage may not have": (
        "curriculum: {stages: {easy: {model: {num_layers: 2}}}}",
        3,
        "curriculum.stages.easy.model",
        ("unknown key",),
    ),
    "stage that is not whole": (
        "curriculum: {order: [warmup, easy, hard, more], stages: {more: {mode: rl}}}",
        3,
        "curriculum.stages.more.budget",
        ("nothing", "The most tokens of a completion"),
    ),
    "include that is nested": (
        "curriculum: {stages: {easy: {include: [stage/easy]}}}",
        3,
        "curriculum.stages.easy.include",
        ("top of the file",),
    ),
    "dotted key": ("layout.learner.tp: 1", 3, "layout.learner.tp", ("nest it",)),
    "text for a number": ("seed: many", 3, "seed", ('got "many"', "a whole number")),
    "fraction for a whole number": ("seed: 1.5", 3, "seed", ("got 1.5", "a whole number")),
    "quoted number": ("seed: '2'", 3, "seed", ('got "2"', "a whole number")),
    "number for text": ("model: {hf_path: 3}", 3, "model.hf_path", ("need text",)),
    "negative": ("seed: -1", 3, "seed", ("at least 0",)),
    "zero": ("rollout: {prompts_per_step: 0}", 3, "rollout.prompts_per_step", ("more than 0",)),
    "too much": ("optimizer: {beta1: 1.5}", 3, "optimizer.beta1", ("at most 1",)),
    "word for a truth": (
        "model: {ties_embeddings: yes}",
        3,
        "model.ties_embeddings",
        ('got "yes"', "true or false"),
    ),
    "unit": ("rollout: {packed_tokens: 8m}", 3, "rollout.packed_tokens", ("8192 or 8k",)),
    "unit in a list": ("evaluation: {budgets: [1k, 2q]}", 3, "evaluation.budgets.1", ("8k",)),
    "value for a list": ("evaluation: {pass_k: 4}", 3, "evaluation.pass_k", ("a list",)),
    "value for a section": ("layout: 3", 3, "layout", ("a mapping",)),
    "null for a number": ("seed: null", 3, "seed", ("got null", "cannot be off")),
    "unknown task": ("task: {kind: chess}", 3, "task.kind", ("one of countdown", "one of these")),
    "misspelt task": ("task: {kind: countdwn}", 3, "task.kind", ("did you mean countdown?",)),
    "unknown family": ("model: {family: gpt5}", 3, "model.family", ("one of qwen3,",)),
    "unknown loss": (
        "loss: {advantage: {kind: mean}}",
        3,
        "loss.advantage.kind",
        ("did you mean group_mean?",),
    ),
    "unknown budget rule": (
        "curriculum: {stages: {easy: {budget: {kind: free}}}}",
        3,
        "curriculum.stages.easy.budget.kind",
        ("one of fixed, ramp, coupled",),
    ),
    "key of another kind": (
        "curriculum: {stages: {easy: {budget: {kappa: 1.1}}}}",
        3,
        "curriculum.stages.easy.budget.kappa",
        ("unknown key",),
    ),
    "interpolation of nothing": ("seed: ${sed}", 3, "seed", ("'sed' not found",)),
    "interpolation that is cut": ("seed: ${rollout", 3, "seed", ("${rollout",)),
    "interpolation in a circle": (
        "rollout: {packed_tokens: '${rollout.packed_tokens}'}",
        3,
        "rollout.packed_tokens",
        ("that resolves",),
    ),
    "interpolation of the machine": ("seed: ${oc.env:HOME}", 3, "seed", ("reference to a key",)),
    "interpolation that calls what there is not": (
        "seed: ${pow:2,3}",
        3,
        "seed",
        ("one of add, mul, div, min, max",),
    ),
    "interpolation that adds words": ("seed: '${add:one,2}'", 3, "seed", ("'one' is no number",)),
    "interpolation that divides by zero": ("seed: '${div:1,0}'", 3, "seed", ("division by zero",)),
    "name that is no folder": ("logging: {}", 2, "name", ("rename 'a/b'",)),
    "stage name that is no folder": (
        "curriculum: {stages: {a b: {}}}",
        3,
        "curriculum.stages.a b.mode",
        ("nothing",),
    ),
    "section switched off": ("evaluation: null", 3, "evaluation", ("got null", "cannot be off")),
    "tensor-parallel grid": (
        "layout: {learner: {tp: 3}}",
        3,
        "layout.learner.tp",
        ("model.num_heads = 4 (specs/fragments/model/qwen3-tiny.yaml:6)", "use 1 or 2"),
    ),
    "pipeline grid": ("layout: {learner: {pp: 2}}", 3, "layout.learner.pp", ("use 1 or 3",)),
    "server grid": ("layout: {generation: {tp: 3}}", 3, "layout.generation.tp", ("use 1, 2 or 4",)),
    "key-value heads": ("model: {num_kv_heads: 3}", 3, "model.num_kv_heads", ("a divisor of",)),
    "odd heads": ("model: {head_dim: 31}", 3, "model.head_dim", ("an even number",)),
    "bfloat16 on the CPU": ("model: {precision: bfloat16}", 3, "model.precision", ("float32",)),
    "small vocabulary": ("model: {vocab_size: 64}", 3, "model.vocab_size", ("118 words",)),
    "order lacks a stage": (
        "curriculum: {order: [warmup, hard]}",
        3,
        "curriculum.order",
        ("warmup, easy, hard",),
    ),
    "order names no stage": (
        "curriculum: {order: [warmup, easy, hart]}",
        3,
        "curriculum.order",
        ("once",),
    ),
    "budget beyond the context": (
        "curriculum: {stages: {easy: {budget: {tokens: 1k}}}}",
        3,
        "curriculum.stages.easy.budget.tokens",
        ("model.max_context_tokens = 512", "at most 505 tokens"),
    ),
    "candidates beyond half the context": (
        "curriculum: {stages: {hard: {budget: {candidates: [64, 256]}}}}",
        3,
        "curriculum.stages.hard.budget.candidates",
        ("twice the largest", "at most 252 tokens"),
    ),
    "candidates that do not ascend": (
        "curriculum: {stages: {hard: {budget: {candidates: [128, 64]}}}}",
        3,
        "curriculum.stages.hard.budget.candidates",
        ("ascend",),
    ),
    "bin below a sequence": (
        "curriculum: {stages: {easy: {rollout: {packed_tokens: 70}}}}",
        3,
        "curriculum.stages.easy.rollout.packed_tokens",
        ("71 tokens", "curriculum.stages.easy.budget.tokens = 64"),
    ),
    "trace beyond its budget": (
        "curriculum: {stages: {warmup: {budget: {tokens: 69}}}}",
        3,
        "curriculum.stages.warmup.budget.tokens",
        ("longest trace, 70 tokens",),
    ),
    "supervised with an RL loss": (
        "replace: {curriculum.stages.warmup.loss: [loss/grpo]}",
        0,
        "curriculum.stages.warmup.loss.advantage.kind",
        ("constant", "loss/sft"),
    ),
    "supervised with samples": (
        "curriculum: {stages: {warmup: {rollout: {samples_per_prompt: 2}}}}",
        3,
        "curriculum.stages.warmup.rollout.samples_per_prompt",
        ("need 1",),
    ),
    "RL without a comparison": (
        "loss: {advantage: {kind: constant}}",
        3,
        "loss.advantage.kind",
        ("a use of the rewards",),
    ),
    "RL with one sample": (
        "rollout: {samples_per_prompt: 1}",
        3,
        "rollout.samples_per_prompt",
        ("at least 2",),
    ),
    "RL that ends by recognition": (
        "curriculum: {stages: {easy: {exit: {kind: recognition, max_steps: 4, every_steps: 1}}}}",
        3,
        "curriculum.stages.easy.exit.kind",
        ("need no recognition for", "use kind: steps"),
    ),
    "stale without correction": (
        "rollout: {max_lag: 1}",
        0,
        "loss.correction",
        ("(the default)", "rollout.max_lag = 1", "kind: truncated"),
    ),
    "steps that end within a round": (
        "curriculum: {stages: {easy: {exit: {steps: 41}, rollout: {steps_per_round: 4}}}}",
        3,
        "curriculum.stages.easy.exit.steps",
        ("a multiple of", "use 40"),
    ),
    "measured within a round": (
        "curriculum: {stages: {warmup: {exit: {every_steps: 15}}}}",
        3,
        "curriculum.stages.warmup.exit.every_steps",
        ("steps_per_round = 10", "use 10"),
    ),
    "measured never": (
        "curriculum: {stages: {warmup: {exit: {min_steps: 2000}}}}",
        3,
        "curriculum.stages.warmup.exit.min_steps",
        ("at most curriculum.stages.warmup.exit.max_steps = 1200",),
    ),
    "more problems than there are": (
        "evaluation: {num_problems: 9999}",
        3,
        "evaluation.num_problems",
        ("held-out problems",),
    ),
    "k above the samples": ("evaluation: {pass_k: [1, 16]}", 3, "evaluation.pass_k", ("at most",)),
    "pass budget beyond the context": (
        "evaluation: {pass_budget_tokens: 512}",
        3,
        "evaluation.pass_budget_tokens",
        ("at most 505",),
    ),
    "no test budget fits": (
        "evaluation: {budgets: [1k, 2k]}",
        3,
        "evaluation.budgets",
        ("at most 505",),
    ),
    "floor without a fall": (
        "optimizer: {min_learning_rate: 1e-5}",
        3,
        "optimizer.min_learning_rate",
        ("never falls",),
    ),
    "rise beyond the stage": (
        "optimizer: {warmup_steps: 41}",
        3,
        "optimizer.warmup_steps",
        ("use 40 or less",),
    ),
    "server argument of the plan": (
        "generation: {server_args: {max_model_len: 64}}",
        3,
        "generation.server_args.max_model_len",
        ("remove it",),
    ),
    "server argument as a flag": (
        "generation: {server_args: {--block-size: 16}}",
        3,
        "generation.server_args.--block-size",
        ("write block_size",),
    ),
    "server argument that vLLM lacks": (
        "generation: {server_args: {block_sise: 16}}",
        3,
        "generation.server_args.block_sise",
        ("an argument of vLLM 0.32.0", "did you mean block_size?"),
    ),
    "server argument of another type": (
        "generation: {server_args: {block_size: large}}",
        3,
        "generation.server_args.block_size",
        ("got large", "a whole number"),
    ),
    "server argument of no choice": (
        "generation: {server_args: {kv_cache_dtype: fp5}}",
        3,
        "generation.server_args.kv_cache_dtype",
        ("one of", "fp8"),
    ),
    "server of one stage": (
        "curriculum: {stages: {easy: {generation: {max_num_seqs: 8}}}}",
        3,
        "curriculum.stages.easy.generation.max_num_seqs",
        ("for the whole run",),
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_spec_is_named(kind: str, tmp_path: Path) -> None:
    text, line, key, words = WRONG[kind]
    run = RUN.replace("wrong", "a/b") if kind == "name that is no folder" else RUN
    found = problems_of(tmp_path, run + text + "\n")
    named = [problem for problem in found if problem.key == key]
    assert named, [str(problem) for problem in found]
    problem = named[0]
    if line:
        assert problem.where == f"{tmp_path}/run.yaml:{line}"
    assert all(part for part in (problem.where, problem.got, problem.need, problem.fix))
    for word in words:
        assert word in str(problem)
    assert "\n" not in str(problem)


def test_all_problems_come_together_on_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN + "layot: {}\nseed: many\nlogging: {num_report_rollouts: 1.5}\n")
    assert main(["plan", str(path), "--set", "model.num_heads=four"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    for key in ("layot", "seed", "logging.num_report_rollouts", "model.num_heads"):
        assert sum(f": {key}: " in line for line in lines) == 1


def test_a_misspelt_mount_is_named_where_it_stands(tmp_path: Path) -> None:
    text = "include:\n  .: [runs/quickstart]\n  curriculm.stages.more: [stage/easy]\nname: x\n"
    (problem,) = problems_of(tmp_path, text)
    assert problem.where == f"{tmp_path}/run.yaml:3"
    assert problem.key == "curriculm"
    assert problem.fix == "did you mean curriculum?"


def test_a_problem_of_an_inherited_value_is_named_once(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, RUN + "evaluation: {num_problems: many}\n")
    assert problem.key == "evaluation.num_problems"


def test_an_unknown_name_of_a_spec_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "quickstrat"]) == 2
    assert "did you mean quickstart" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["seed", "=3", "seed=[1", "a..b=1"])
def test_a_garbled_set_is_a_problem(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "quickstart", "--set", text]) == 2
    assert "--set" in capsys.readouterr().err
