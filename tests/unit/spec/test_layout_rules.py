"""Rank grids that cannot be are refused, with what would be possible."""

from pathlib import Path

import pytest

from tests.spec_cases import problems_of, resolved

RUN = "include: [runs/quickstart]\nname: x\n"
EXPERTS = (
    "family: qwen3_moe, experts: "
    "{num_experts: 6, experts_per_token: 2, ffn_size: 32, normalizes_gates: true"
)

ONE = "layout: {learner: {tp: 1}}\n"

# What the run adds, the key at fault, and what its problem says.
REFUSED = {
    "uneven chunks": (
        "layout: {learner: {pp: 2, chunks_per_stage: 2}}",
        "layout.learner.chunks_per_stage",
        ("with layout.learner.pp = 2", "model.num_layers = 3", "or list layers_per_chunk"),
    ),
    "chunks too few": (
        "layout: {learner: {pp: 2, layers_per_chunk: [3]}}",
        "layout.learner.layers_per_chunk",
        ("layout.learner.pp = 2", "list 2 numbers"),
    ),
    "chunks that do not sum": (
        "layout: {learner: {pp: 2, layers_per_chunk: [1, 1]}}",
        "layout.learner.layers_per_chunk",
        ("model.num_layers = 3", "sum to 2"),
    ),
    "nothing to interleave": (
        "layout: {learner: {chunks_per_stage: 3}}",
        "layout.learner.chunks_per_stage",
        ("or more pp",),
    ),
    "sequence parallel alone": (
        "layout: {learner: {tp: 1, sequence_parallel: true}}",
        "layout.learner.sequence_parallel",
        ("false for layout.learner.tp = 1",),
    ),
    "completions that no rank sees whole": (
        "layout: {learner: {cp: 2}}\nloss: {ratio: {kind: sequence}}",
        "loss.ratio.kind",
        ("a loss of single tokens for layout.learner.cp = 2",),
    ),
    "experts without any": (
        "layout: {learner: {ep: 2}}",
        "layout.learner.ep",
        ("1 for a model without experts",),
    ),
    "Transformer Engine on the CPU": (
        "layout: {learner: {layers: transformer_engine}}",
        "layout.learner.layers",
        ("use auto",),
    ),
    "8 bits on the CPU": ("layout: {learner: {fp8: delayed}}", "layout.learner.fp8", ("use off",)),
    "8 bits of single precision": (
        "layout: {learner: {device: gpu, layers: transformer_engine, fp8: delayed}}",
        "layout.learner.fp8",
        ("model.precision = float32",),
    ),
    "gather without reduce": (
        "layout: {learner: {overlap_param_gather: true}}",
        "layout.learner.overlap_param_gather",
        ("overlap_grad_reduce: true",),
    ),
    "dense family with experts": (
        ONE + "model: {" + EXPERTS.replace("qwen3_moe", "llama") + "}}",
        "model.experts",
        ("null for model.family = llama",),
    ),
    "family of experts without any": (
        "model: {family: qwen3_moe}",
        "model.experts",
        ("a mapping",),
    ),
    "experts that cannot be divided": (
        "layout: {learner: {dp: 4, ep: 4, tp: 1}}\nmodel: {" + EXPERTS + "}}",
        "layout.learner.ep",
        ("model.experts.num_experts = 6", "use 1, 2, 3 or 6"),
    ),
    "expert grid beyond a stage": (
        "layout: {learner: {dp: 2, ep: 2, expert_tp: 2, tp: 1}}\nmodel: {" + EXPERTS + "}}",
        "layout.learner.ep",
        ("a stage's 2 ranks", "product is 1 or 2"),
    ),
    "experts on divided matrices": (
        "model: {" + EXPERTS + "}}",
        "layout.learner.sequence_parallel",
        ("layout.learner.tp = 2",),
    ),
    "more picks than experts": (
        ONE + "model: {" + EXPERTS.replace("token: 2", "token: 7") + "}}",
        "model.experts.experts_per_token",
        ("6 or less",),
    ),
    "no layer with experts": (
        ONE + "model: {" + EXPERTS + ", dense_layers: [0, 1, 2]}}",
        "model.experts.dense_layers",
        ("the dense family",),
    ),
    "dense layer that is none": (
        ONE + "model: {" + EXPERTS + ", dense_layers: [3]}}",
        "model.experts.dense_layers",
        ("model.num_layers = 3",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_grid_that_cannot_be_is_refused_with_its_fix(tmp_path: Path, case: str) -> None:
    text, key, parts = REFUSED[case]
    (problem,) = problems_of(tmp_path, RUN + text + "\n")
    assert problem.key == key
    for part in parts:
        assert part in str(problem)


def test_uneven_interleaved_stages_pass(tmp_path: Path) -> None:
    text = "model: {num_layers: 5}\nlayout: {learner: {pp: 2, chunks_per_stage: 2, "
    text += "layers_per_chunk: [1, 2, 1, 1]}}\n"
    layout = resolved(tmp_path, RUN + text).options.layout.learner
    assert layout.layers_per_chunk == (1, 2, 1, 1)


def test_a_grid_of_experts_passes(tmp_path: Path) -> None:
    text = "layout: {learner: {tp: 2, dp: 2, ep: 2, expert_tp: 2, sequence_parallel: true}}\n"
    options = resolved(tmp_path, RUN + text + "model: {" + EXPERTS + "}}\n").options
    assert options.model.experts is not None


def test_a_stage_s_own_grid_is_held_to_the_same_rules(tmp_path: Path) -> None:
    text = "curriculum: {stages: {easy: {layout: {learner: {tp: 3}}}}}\n"
    (problem,) = problems_of(tmp_path, RUN + text)
    assert problem.key == "curriculum.stages.easy.layout.learner.tp"
    assert "model.num_heads = 4" in problem.need


def test_a_stage_s_loss_is_held_to_the_stage_s_own_grid(tmp_path: Path) -> None:
    """The run divides no sequence; the stage does, and takes a ratio of whole completions."""
    stage = "layout: {learner: {tp: 1, cp: 2}}, loss: {ratio: {kind: sequence}}"
    (problem,) = problems_of(tmp_path, RUN + "curriculum: {stages: {easy: {" + stage + "}}}\n")
    assert problem.key == "curriculum.stages.easy.loss.ratio.kind"
    assert "curriculum.stages.easy.layout.learner.cp = 2" in problem.need
