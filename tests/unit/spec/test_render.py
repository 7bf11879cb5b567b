"""A resolved spec shows each value with its origin, and resolves to itself."""

import re
from pathlib import Path

import pytest

from e3mega.spec.files import LIBRARY
from e3mega.spec.render import resolved_text
from e3mega.spec.resolve import resolve_spec
from tests.spec_cases import resolved

RUNS = sorted((LIBRARY / "runs").rglob("*.yaml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_the_text_resolves_to_the_same_options(path: Path, tmp_path: Path) -> None:
    first = resolve_spec(path)
    again = resolved(tmp_path, resolved_text(first))
    assert again.options == first.options


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shown_origin_states_the_value(path: Path) -> None:
    lines = resolved_text(resolve_spec(path)).splitlines()
    shown = 0
    for index, line in enumerate(lines):
        # A long text stands on a line of its own; its origin is above it.
        assert len(line) <= 80 or "  # " not in line
        found = re.search(r"# (specs/\S+\.yaml):(\d+)$", line)
        if found is None:
            continue
        pair = line if line.split("#")[0].strip() else lines[index + 1]
        name = pair.split(":")[0].strip()
        stated = (LIBRARY.parent / found[1]).read_text(encoding="utf-8").splitlines()
        assert re.search(rf"\b{name}\b", stated[int(found[2]) - 1]), line
        shown += 1
    assert shown > 20


def test_values_that_yaml_could_take_for_others_are_quoted(tmp_path: Path) -> None:
    text = (
        "include: [runs/quickstart]\nname: '12'\n"
        "generation: {server_args: {tokenizer: 'true', revision: 'x: y', uds: 'null',"
        " enforce_eager: true, gpu_memory_utilization: 1e-6, config_format: '-1'}}\n"
    )
    first = resolved(tmp_path, text)
    again = resolved(tmp_path, resolved_text(first))
    assert again.options == first.options
    assert again.options.generation.server_args["tokenizer"] == "true"
