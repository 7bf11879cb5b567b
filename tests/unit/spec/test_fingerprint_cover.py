"""Any changed value of what a fingerprint covers changes it, and no other does."""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from e3mega.spec.fingerprint import UNCOVERED, run_fingerprint, stage_fingerprints
from e3mega.spec.schema.run import RunOptions
from tests.spec_cases import resolved


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, Enum):
        others = [member for member in type(value) if member is not value]
        return others[0] if others else None
    if isinstance(value, tuple):
        return (*value, value[-1]) if value else ("x",)
    return "x" if value is None else None


def variants(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The model with each of its leaves changed in turn, below sections and maps of sections."""
    for name in type(model).model_fields:
        for key, value in values(getattr(model, name), f"{prefix}{name}"):
            yield key, model.model_copy(update={name: value})


def values(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The value of one field with each leaf inside it changed in turn."""
    if isinstance(value, BaseModel):
        yield from variants(value, f"{key}.")
    elif isinstance(value, dict) and value:
        for name, section in value.items():
            for inner, other in variants(section, f"{key}.{name}."):
                yield inner, {**value, name: other}
    else:
        yield key, changed(value)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    folder: Path = tmp_path_factory.mktemp("spec")
    return resolved(folder, "include: [runs/quickstart]\n").options


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_covered_leaf_changes_the_fingerprint_and_no_other_does(options: RunOptions) -> None:
    before, count = run_fingerprint(options), 0
    for key, other in variants(options):
        is_covered = key.split(".")[0] not in UNCOVERED
        assert (run_fingerprint(other) != before) is is_covered, key
        count += 1
    assert count > 150


def first_touched(options: RunOptions, key: str) -> int | None:
    """Position of the first stage whose outcome depends on a leaf; None if none does.

    The rule of the design, told anew: seed, model, the learner's layout, the stage's entry with
    its sections, and for RL the generation tier and its settings.
    """
    order = options.curriculum.order
    rl = [n for n, name in enumerate(order) if options.curriculum.stages[name].mode.value == "rl"]
    section, *inner = key.split(".")
    if section in ("seed", "model"):
        return 0
    if key.startswith("layout.generation."):
        return rl[0]
    if key.startswith("curriculum.stages."):
        place, own = order.index(inner[1]), inner[2:]
        if own[0] == "caps" or own[:2] == ["layout", "generation"]:
            return None
        return None if own[0] == "generation" and place not in rl else place
    # A stage holds its own copy of a run's section.
    return None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_leaf_changes_the_stages_that_depend_on_it_and_no_other(options: RunOptions) -> None:
    before = stage_fingerprints(options)
    reached: set[int | None] = set()
    for key, other in variants(options):
        if key == "curriculum.order":
            continue
        first = first_touched(options, key)
        after = stage_fingerprints(other)
        agree = [one == two for one, two in zip(before, after, strict=True)]
        count = len(before) if first is None else first
        assert agree == [True] * count + [False] * (len(before) - count), key
        reached.add(first)
    assert reached == {None, 0, 1, 2}
