"""The runs that docs/specs.md shows resolve and plan."""

import re
from pathlib import Path

import pytest

from e3mega.plan.compile import compile_plan
from e3mega.spec.resolve import resolve_spec
from e3mega.spec.schema.run import RunOptions

PAGE = (Path(__file__).parents[2] / "docs" / "specs.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_resolves_and_plans(number: int, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(EXAMPLES[number], encoding="utf-8")
    assert compile_plan(resolve_spec(path).options).stages


def test_there_are_examples_and_every_section_is_named() -> None:
    assert len(EXAMPLES) == 3
    for section in set(RunOptions.model_fields) - {"name"}:
        assert f"`{section}`" in PAGE, section
