"""Combinations of a loss's parts that mean nothing are refused with the reason."""

from pathlib import Path

import pytest

from tests.spec_cases import problems_of

RUN = "include: [runs/quickstart]\nname: wrong\n"

# keys below ``loss``, the key of the problem, words of its reason
WRONG: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "dual clip within the clip": (
        "ratio: {kind: token, dual_clip: 1.1}",
        "ratio.dual_clip",
        ("more than 1 + loss.ratio.clip_high = 0.2 (the default)",),
    ),
    "clip of everything": ("ratio: {clip_low: 1.0}", "ratio.clip_low", ("less than 1",)),
    "clip of another ratio": ("ratio: {kind: none, clip_low: 0.1}", "ratio.clip_low", ("unknown",)),
    "bounds in the wrong order": (
        "ratio: {kind: truncated, negative: {min: 2.0}}",
        "ratio.negative.min",
        ("at most loss.ratio.negative.max = 1.0",),
    ),
    "more right samples than there are": (
        "advantage: {kind: pass_at_k, k: 9}",
        "advantage.k",
        ("at most rollout.samples_per_prompt = 8",),
    ),
    "success rates of shaped rewards": (
        "{advantage: {kind: maximum_likelihood}, sign: {truncated: {kind: soft_penalty}}}",
        "sign.truncated.kind",
        ("rewards of 0 and 1",),
    ),
    "a penalty over no tokens": (
        "sign: {truncated: {kind: soft_penalty, buffer_frac: 0.0}}",
        "sign.truncated.buffer_frac",
        ("more than 0",),
    ),
    "a weight of dropped samples": (
        "sign: {keep: positive, negative: {weight: 0.5}}",
        "sign.negative.weight",
        ("since loss.sign.keep = positive",),
    ),
    "a selection of dropped samples": (
        "sign: {keep: positive, negative: {tokens: {kind: nthr}}}",
        "sign.negative.tokens",
        ("since loss.sign.keep = positive",),
    ),
    "a selection without right samples": (
        "sign: {keep: negative, negative: {tokens: {kind: nthr}}}",
        "sign.negative.tokens",
        ("since loss.sign.keep = negative", "judged by"),
    ),
    "a selection that takes nothing": (
        "sign: {negative: {tokens: {kind: nthr, factor: 1.0}}}",
        "sign.negative.tokens.factor",
        ("less than 1",),
    ),
    "a reference that never moves": (
        "kl: {reference: {kind: moving, every_steps: 8, mix: 0.0}}",
        "kl.reference.mix",
        ("more than 0",),
    ),
    "a refill that refills nothing": (
        "dynamic_sampling: {max_refills: 0}",
        "dynamic_sampling.max_refills",
        ("more than 0",),
    ),
    "a selection of weightless samples": (
        "sign: {negative: {weight: 0.0, tokens: {kind: nthr}}}",
        "sign.negative.tokens",
        ("null for loss.sign.negative.weight = 0.0",),
    ),
    "no sign trains": (
        "sign: {positive: {weight: 0.0}, negative: {weight: 0.0}}",
        "sign.positive.weight",
        ("more than 0",),
    ),
    "a schedule without its values": (
        "sign: {negative: {weight: {kind: stepped, first: 1.0, at_steps: [5], values: []}}}",
        "sign.negative.weight.values",
        ("one value for each of",),
    ),
    "a schedule that goes back": (
        "sign: {negative: {weight: {kind: stepped, first: 1.0, at_steps: [5, 5], values: [1, 2]}}}",
        "sign.negative.weight.at_steps",
        ("ascend",),
    ),
    "a refill of groups that teach": (
        "{advantage: {kind: virtual_best}, dynamic_sampling: {}}",
        "dynamic_sampling",
        ("under which groups of equal rewards have a gradient",),
    ),
    "a negative weight": (
        "sign: {negative: {weight: -1.0}}",
        "sign.negative.weight",
        ("at least 0",),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_meaningless_loss_is_refused(name: str, tmp_path: Path) -> None:
    text, key, words = WRONG[name]
    found = problems_of(tmp_path, f"{RUN}loss: {text if text[0] == '{' else '{' + text + '}'}\n")
    (problem,) = [each for each in found if each.key == f"loss.{key}"]
    assert "run.yaml:3" in problem.where
    for word in words:
        assert word in str(problem), problem


SUPERVISED = {
    "advantage: {kind: group_mean}, ratio: {kind: none}": "advantage.kind",
    "advantage: {kind: constant}": "ratio.kind",
    "sign: {keep: positive}": "sign.keep",
    "sign: {truncated: {kind: mask}}": "sign.truncated.kind",
    "credit: {kind: discounted, discount: 0.9}": "credit.kind",
    "reduction: {kind: sequence_mean}": "reduction.kind",
    "sign: {positive: {weight: 0.5}}": "sign.positive.weight",
    "sign: {negative: {weight: 0.5}}": "sign.negative.weight",
    "sign: {negative: {tokens: {kind: nthr}}}": "sign.negative.tokens",
    "correction: {kind: truncated}": "correction",
    "dynamic_sampling: {}": "dynamic_sampling",
}


@pytest.mark.parametrize("text", SUPERVISED)
def test_a_supervised_stage_refuses_what_it_would_ignore(text: str, tmp_path: Path) -> None:
    key = SUPERVISED[text]
    whole = key in ("advantage.kind", "ratio.kind")
    parts = text if whole else f"advantage: {{kind: constant}}, ratio: {{kind: none}}, {text}"
    stage = f"curriculum: {{stages: {{warmup: {{loss: {{{parts}}}}}}}}}\n"
    found = problems_of(tmp_path, f"{RUN}replace: {{curriculum.stages.warmup.loss: []}}\n{stage}")
    assert [each.key for each in found] == [f"curriculum.stages.warmup.loss.{key}"]
    assert "curriculum.stages.warmup.mode = supervised" in str(found[0])


def test_a_reference_moves_between_rounds_only(tmp_path: Path) -> None:
    text = (
        "rollout: {steps_per_round: 4}\nloss: {kl: {reference: {kind: moving, every_steps: 6}}}\n"
    )
    found = problems_of(tmp_path, RUN + text)
    (problem,) = [each for each in found if each.key == "loss.kl.reference.every_steps"]
    assert "a multiple of rollout.steps_per_round = 4" in str(problem)
    assert "use 8" in str(problem)


def test_a_reference_moves_by_halves_in_float32_only(tmp_path: Path) -> None:
    text = "loss: {kl: {reference: {kind: moving, every_steps: 8, mix: 0.5}}}\n"
    key = "loss.kl.reference.mix"
    assert key not in [each.key for each in problems_of(tmp_path, RUN + text + "seed: -1\n")]
    found = problems_of(tmp_path, RUN + text + "model: {precision: bfloat16}\n")
    (problem,) = [each for each in found if each.key == key]
    assert "1.0 for model.precision = bfloat16" in str(problem)


def test_stale_rollouts_need_a_correction_or_a_loss_made_for_them(tmp_path: Path) -> None:
    stale = "rollout: {max_lag: 1}\n"
    keys = [problem.key for problem in problems_of(tmp_path, RUN + stale)]
    assert keys == ["loss.correction"]
    made_for_it = "loss: {advantage: {kind: shifted_mean}, ratio: {kind: none}}\nseed: -1\n"
    keys = [problem.key for problem in problems_of(tmp_path, RUN + stale + made_for_it)]
    assert keys == ["seed"]
