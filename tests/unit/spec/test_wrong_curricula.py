"""A stage that cannot be measured as it says is refused with what to change."""

from pathlib import Path

import pytest

from e3mega.curriculum.options import TokensExit
from e3mega.spec.resolve import find_spec, resolve_spec
from tests.spec_cases import problems_of

EASY = "curriculum: {stages: {easy: "
RUN = "include: [runs/quickstart]\nname: wrong\n"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (
            "rollout: {steps_per_round: 2}\nevaluation: {every_steps: 3}",
            "evaluation.every_steps",
            ("a multiple of", "rollout.steps_per_round = 2", "use 2"),
        ),
        (
            "task: {trace_has_verification: false}",
            "curriculum.stages.warmup.exit.kind",
            ("traces with verdicts", "task.trace_has_verification = false", "use kind: steps"),
        ),
        (
            f"{EASY}{{exit: {{kind: target, at_least: 0.5, every_steps: 9, max_steps: 8}}}}}}}}",
            "curriculum.stages.easy.exit.every_steps",
            ("got 9", "at most curriculum.stages.easy.exit.max_steps = 8", "use 8 or less"),
        ),
        (
            f"{EASY}{{exit: {{kind: plateau, every_steps: 3, patience: 2, max_steps: 8}}}}}}}}",
            "curriculum.stages.easy.exit.every_steps",
            ("got 3", "3 measurements within curriculum.stages.easy.exit.max_steps = 8", "use 2"),
        ),
        (
            f"{EASY}{{caps: {{max_trained_tokens: 16383}}}}}}}}",
            "curriculum.stages.easy.caps.max_trained_tokens",
            ("got 16383", "at least 16384, what a round of stage easy may take"),
        ),
        (
            "loss: {dynamic_sampling: {max_refills: 2}}\n"
            "curriculum: {caps: {max_generated_tokens: 40k}}",
            "curriculum.caps.max_generated_tokens",
            ("got 40960", "at least 49152, what a round of stage easy may take"),
        ),
        (
            f"{EASY}{{budget: {{kind: coupled, candidates: [64], kappa: 0.9}}}}}}}}",
            "curriculum.stages.easy.budget.kappa",
            ("got 0.9", "at least 1"),
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, text: str, key: str, words: tuple[str, ...]
) -> None:
    found = problems_of(tmp_path, f"{RUN}{text}\n")
    problem = next(each for each in found if each.key == key)
    for word in words:
        assert word in str(problem)


def test_tokens_of_an_exit_can_be_written_in_thousands() -> None:
    rule = "{kind: tokens, of: trained, num_tokens: 64k, max_steps: 8}"
    tokens = f"curriculum.stages.easy.exit={rule}"
    stages = resolve_spec(find_spec("quickstart"), sets=[tokens]).options.curriculum.stages
    leave = stages["easy"].exit
    assert isinstance(leave, TokensExit) and leave.num_tokens == 65536
