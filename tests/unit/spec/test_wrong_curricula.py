"""A stage that cannot be measured as it says is refused with what to change."""

from pathlib import Path

import pytest

from tests.spec_cases import problems_of

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
    ],
)
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, text: str, key: str, words: tuple[str, ...]
) -> None:
    found = problems_of(tmp_path, f"{RUN}{text}\n")
    problem = next(each for each in found if each.key == key)
    for word in words:
        assert word in str(problem)
