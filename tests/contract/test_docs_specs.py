"""The runs that docs/specs.md shows resolve and plan, and its commands print what it shows."""

import re
import shlex
from pathlib import Path

import pytest

from e3mega.cli import COMMANDS, main
from e3mega.plan.compile import checked_plan
from e3mega.spec.resolve import resolve_spec
from e3mega.spec.schema.run import RunOptions

PAGE = (Path(__file__).parents[2] / "docs" / "specs.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
SESSIONS = re.findall(r"```console\n\$ e3mega ([^\n]*)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_resolves_and_plans(number: int, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(EXAMPLES[number], encoding="utf-8")
    assert checked_plan(resolve_spec(path)).stages


def plain(line: str) -> str:
    """A line without its numbers and units, which follow the shipped specs as they are tuned."""
    return " ".join(re.sub(r"[\d.,:]+( min| s| h)?", "#", line).split())


@pytest.mark.parametrize("number", range(len(SESSIONS)))
def test_a_command_prints_what_is_shown(
    number: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command, shown = SESSIONS[number]
    arguments = shlex.split(command)
    if arguments[0] == "sweep":
        arguments += ["--out", str(tmp_path)]
    assert main(arguments) == 0
    printed = {plain(line) for line in capsys.readouterr().out.splitlines()}
    for line in shown.splitlines():
        assert plain(line) in printed, line


def test_there_are_examples_and_every_section_is_named() -> None:
    assert len(EXAMPLES) == 5 and len(SESSIONS) == 4
    for section in set(RunOptions.model_fields) - {"name"}:
        assert f"`{section}`" in PAGE, section
    named = set(re.findall(r"^e3mega (\w+)", PAGE, flags=re.MULTILINE))
    assert named <= set(COMMANDS)
