"""The JSON Schema for editors accepts what the compiler accepts, and knows the keys."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from e3mega.spec.files import LIBRARY
from e3mega.spec.json_schema import json_schema

FILES = sorted(LIBRARY.rglob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_accepts_every_shipped_file(path: Path) -> None:
    # BaseLoader would make all values text; JSON's own types are what an editor's YAML gives.
    loaded = yaml.safe_load(path.read_text(encoding="utf-8").replace("e-", ".0e-"))
    assert [error.message for error in VALIDATOR.iter_errors(loaded)] == []


@pytest.mark.parametrize(
    "tree",
    [
        {"sed": 1},
        {"seed": "many"},
        {"rollout": {"prompts_per_stp": 3}},
        {"rollout": {"packed_tokens": "8m"}},
        {"curriculum": {"stages": {"easy": {"budget": {"kind": "free"}}}}},
        {"curriculum": {"stages": {"easy": {"model": {}}}}},
        {"loss": {"advantage": {"kind": "mean"}}},
        {"include": "runs/quickstart"},
        {"replace": ["loss/grpo"]},
    ],
)
def test_it_refuses_what_the_compiler_refuses(tree: dict) -> None:
    assert list(VALIDATOR.iter_errors(tree))


@pytest.mark.parametrize(
    "tree",
    [
        {"seed": "${logging.num_report_rollouts}"},
        {"rollout": {"packed_tokens": "8k"}, "loss": {"ratio": {"dual_clip": None}}},
        {"include": {".": ["runs/quickstart"], "curriculum.stages.more": ["stage/easy"]}},
        {"budget": {"tokens": 64}, "mode": "rl"},
    ],
)
def test_it_accepts_partial_files(tree: dict) -> None:
    assert list(VALIDATOR.iter_errors(tree)) == []
