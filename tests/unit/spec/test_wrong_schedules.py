"""A learning-rate schedule that cannot do what it says is refused with what to change."""

from pathlib import Path

import pytest

from tests.spec_cases import problems_of

RUN = "include: [runs/quickstart]\nname: wrong\n"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{decay_steps: 4}", ("0 for optimizer.schedule", "schedule: wsd")),
        ("{schedule: wsd}", ("at least 1", "over how many steps")),
        (
            "{schedule: wsd, warmup_steps: 30, decay_steps: 11}",
            ("curriculum.stages.easy.exit.steps = 40", "use 10 or less"),
        ),
    ],
)
def test_a_fall_that_cannot_be_is_refused(
    tmp_path: Path, section: str, words: tuple[str, ...]
) -> None:
    found = problems_of(tmp_path, f"{RUN}optimizer: {section}\n")
    (problem, *_) = [each for each in found if each.key == "optimizer.decay_steps"]
    assert problem.where == f"{tmp_path}/run.yaml:3"
    for word in words:
        assert word in str(problem)
