"""The story of a value names every statement of it, and why the winner won."""

from pathlib import Path

import pytest

from e3mega.cli import main
from e3mega.errors import SpecError
from e3mega.spec.explain import explanation
from e3mega.spec.reference import entries, reference_text
from tests.spec_cases import resolved

RUN = """include: [runs/quickstart]
optimizer: {learning_rate: 1e-4}
evaluation: {pass_k: [1, 2]}
loss: {ratio: {clip_high: 0.3, dual_clip: 4.0}, sign: {positive: {weight: 0.5}}}
curriculum: {stages: {easy: {loss: {ratio: {dual_clip: null}}}}}
"""


def story(tmp_path: Path, key: str, *sets: str) -> str:
    text = explanation(resolved(tmp_path, RUN, sets=sets), tuple(key.split(".")))
    assert max(len(line) for line in text.splitlines()) <= 80
    return " ".join(text.split())


def test_every_setter_is_named_with_why_it_lost(tmp_path: Path) -> None:
    text = story(tmp_path, "optimizer.learning_rate", "optimizer.learning_rate=1e-5")
    assert text.startswith("optimizer.learning_rate = 1e-05 Peak learning rate.")
    assert "a number of at least 0; default 1e-06" in text
    assert "--set optimizer.learning_rate=1e-5 1e-05: wins; the command line" in text
    assert f"{tmp_path}/run.yaml:2 0.0001: overridden: --set" in text
    low = "specs/fragments/optimizer/adamw-rl-tiny.yaml:3 0.0003: overridden: "
    assert low in text
    assert text.index("wins") < text.index("0.0001: overridden") < text.index("0.0003: overr")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("curriculum.stages.easy.loss.ratio.clip_high", "inherited from loss.ratio.clip_high"),
        ("curriculum.stages.warmup.loss.sign.positive.weight", "the default stands"),
        ("curriculum.stages.warmup.loss.sign.positive.weight", "stages.warmup.loss is replaced at"),
        ("curriculum.stages.easy.loss.ratio.dual_clip", "the stage has a value of its own"),
        ("curriculum.stages.warmup.optimizer.learning_rate", "not inherited from optimizer"),
        ("rollout.packed_tokens", "tokens (8k is 8192)"),
        ("generation.sync_deadline_s", "seconds"),
        ("rollout.prompts_per_step", "prompts per step"),
        ("seed", "the default stands: no file that counts sets it"),
    ],
)
def test_a_story_says_where_a_value_comes_from(tmp_path: Path, key: str, words: str) -> None:
    assert words in story(tmp_path, key)


def test_a_section_tells_the_story_of_all_its_values(tmp_path: Path) -> None:
    text = story(tmp_path, "evaluation")
    for name in ("budgets", "num_problems", "pass_k", "pass_budget_tokens"):
        assert f"evaluation.{name} = " in text


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("loss.ratio.clp_high", "did you mean loss.ratio.clip_high?"),
        ("los.ratio", "did you mean loss?"),
        ("curriculum.stages.esy.loss", "did you mean curriculum.stages.easy?"),
        ("curriculum.stages.none", "the spec has easy, warmup, hard there"),
        ("learning_rate", "did you mean optimizer.learning_rate?"),
    ],
)
def test_a_key_that_is_not_there_is_answered_with_one_that_is(
    tmp_path: Path, key: str, fix: str
) -> None:
    with pytest.raises(SpecError) as caught:
        story(tmp_path, key)
    assert caught.value.problems[0].fix == fix


@pytest.mark.parametrize(
    ("sets", "who"), [((), "by default"), (("loss.kl=null",), "by --set loss.kl=null")]
)
def test_a_key_below_null_is_told_who_set_the_null(
    tmp_path: Path, sets: tuple[str, ...], who: str
) -> None:
    with pytest.raises(SpecError) as caught:
        story(tmp_path, "loss.kl.coefficient", *sets)
    problem = caught.value.problems[0]
    assert problem.got == f"loss.kl = null, {who}"
    assert problem.fix == "explain loss.kl, or set a key below it"


def test_the_reference_holds_every_field_with_its_description() -> None:
    text = reference_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    flat = " ".join(text.split())
    found = list(entries())
    assert len(found) > 100
    for entry in found:
        assert ".".join(entry.key) in flat
        assert " ".join((entry.info.description or "").split()) in flat


def test_the_reference_of_a_section_holds_only_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "optimizer"]) == 0
    text = capsys.readouterr().out
    assert "optimizer.beta1: a number of at least 0 and of at most 1; default 0.9" in text
    assert "rollout" not in text
    assert main(["schema", "optimiser"]) == 2
    assert "did you mean optimizer?" in capsys.readouterr().err
