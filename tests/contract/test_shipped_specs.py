"""Every shipped run resolves and plans, and fragments hold only what they are for."""

import math
from pathlib import Path

import pytest

from e3mega.errors import Problem
from e3mega.metrics import Json
from e3mega.plan.compile import compile_plan
from e3mega.plan.planfile import plan_to_json, read_plan
from e3mega.spec.fields import fields_at
from e3mega.spec.files import LIBRARY
from e3mega.spec.origins import Key
from e3mega.spec.resolve import resolve_spec
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.yamlfile import Setting, parse_yaml

RUNS = sorted((LIBRARY / "runs").rglob("*.yaml"))
FRAGMENTS = sorted((LIBRARY / "fragments").rglob("*.yaml"))


def settings_of(path: Path) -> tuple[Setting, ...]:
    problems: list[Problem] = []
    found = parse_yaml(path.read_text(encoding="utf-8"), path.name, problems.append)
    assert problems == []
    return found.settings


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_run_resolves_and_plans(path: Path, tmp_path: Path) -> None:
    plan = compile_plan(resolve_spec(path).options)
    assert plan.warnings == ()
    file = tmp_path / "plan.json"
    file.write_text(plan_to_json(plan), encoding="utf-8")
    assert read_plan(file) == plan


def default_of(key: Key) -> Json:
    """The schema's default of a key, as JSON; a mark of its own where there is none."""
    info = (fields_at(key[:-1]) or {}).get(key[-1])
    if info is None or info.is_required():
        return "required"
    value = info.get_default()
    return getattr(value, "value", list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(
    "path", [path for path in FRAGMENTS if path.parent.name != "stage"], ids=lambda path: path.stem
)
def test_a_fragment_states_no_default(path: Path) -> None:
    """A stage's fragment may: it lies over the run's sections, not over the schema."""
    mount: Key = ("curriculum", "stages", "any") if path.parent.name == "budget" else ()
    for setting in settings_of(path):
        if setting.key[0] not in ("include", "replace"):
            assert setting.value != default_of(mount + setting.key), setting


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_fragment_is_used_by_a_run(path: Path) -> None:
    name = f"{path.parent.name}/{path.stem}"
    users = [
        other
        for other in [*RUNS, *FRAGMENTS]
        for setting in settings_of(other)
        if setting.key[0] in ("include", "replace")
        and isinstance(setting.value, list)
        and name in setting.value
    ]
    assert users


def test_the_quickstart_is_what_was_derived_by_hand() -> None:
    plan = compile_plan(resolve_spec(LIBRARY / "runs" / "quickstart.yaml").options)
    # Embedding 128 x 128. A layer: q 256 x 128, k and v 128 x 128, o 128 x 256, three of the
    # feed-forward 384 x 128, two norms of 128 and two of one head, 64. The final norm 128.
    layer = 256 * 128 * 2 + 2 * 128 * 128 + 3 * 384 * 128 + 2 * 128 + 2 * 64
    assert plan.num_parameters == 128 * 128 + 3 * layer + 128 == 754_944
    assert plan.sync_bytes == 4 * 754_944
    # "3 numbers, a target, two signs and the start": 7; the largest of 4 x 64 and 2 x 128 behind.
    assert plan.server.max_model_len == 7 + 256
    assert [stage.name for stage in plan.stages] == ["warmup", "easy", "hard"]
    assert [stage.mode for stage in plan.stages] == [
        StageMode.SUPERVISED,
        StageMode.RL,
        StageMode.RL,
    ]
    warmup, easy, hard = plan.stages
    assert [budget.tokens for budget in easy.budgets] == [64]
    assert [budget.tokens for budget in hard.budgets] == [64, 128]
    assert hard.budgets[1].max_sequence_tokens == 135
    assert hard.budgets[1].sequences_per_bin == math.floor(2048 / 135) == 15
    assert easy.evaluation.budgets == (32, 64, 128, 256)
    assert (easy.task.half.value, hard.task.half.value, warmup.task.half.value) == (
        "easy",
        "hard",
        "all",
    )
