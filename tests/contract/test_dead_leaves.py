"""Every leaf of a spec is read by some consumer: a key that nobody reads is a failing test.

A copy of the package loses the declarations of all leaves; pyright then names each place that
reads one, with the class that it belongs to.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e3mega.options import Options
from e3mega.spec.fields import models_of
from tests.contract.test_shape import option_models

CHECKOUT = Path(__file__).parents[2]
NAMES_ITSELF = "kind"
"""Chooses the model of a section, which is how it is read."""
BY_NAME = {"TokenCaps": "rollout/ledger.py"}
"""Models whose leaves one file reads by computed names, which pyright does not follow."""
READS = re.compile(r'Cannot access attribute "(\w+)" for class "(?:type\[)?(\w+)')


def leaves() -> set[tuple[str, str]]:
    """Model and field of every leaf; a section is read by what reads its leaves."""
    return {
        (model.__name__, name)
        for model in option_models()
        for name in model.__annotations__
        if name in model.model_fields
        and name != NAMES_ITSELF
        and not list(models_of(model.model_fields[name].annotation))
    }


def bases() -> dict[str, set[str]]:
    """Each model with the models that it inherits leaves from, itself included."""
    return {
        model.__name__: {base.__name__ for base in model.__mro__ if issubclass(base, Options)}
        for model in option_models()
    }


def without_leaves(path: Path, names: dict[str, set[str]]) -> str:
    """The file's text with the declarations of leaves turned into blank lines."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        declared = node.body if isinstance(node, ast.ClassDef) and node.name in names else []
        for statement in declared:
            if _declares(statement, names[node.name]):
                lines[statement.lineno - 1] = f"{' ' * statement.col_offset}..."
                last = statement.end_lineno or statement.lineno
                lines[statement.lineno : last] = [""] * (last - statement.lineno)
    return "\n".join(lines) + "\n"


def _declares(statement: ast.stmt, fields: set[str]) -> bool:
    is_annotated = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    return is_annotated and statement.target.id in fields


def reads(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Class, attribute and file of every access that pyright cannot resolve in the copy."""
    done = subprocess.run(
        [Path(sys.executable).parent / "pyright", "--pythonpath", sys.executable, "--outputjson"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        match = READS.search(found["message"])
        if match is not None:
            yield match[2], match[1], str(Path(found["file"]).relative_to(folder))


@pytest.mark.parametrize("check", ["types"])
def test_every_leaf_is_read_by_a_consumer(check: str, tmp_path: Path) -> None:
    """A rule of ``spec`` is no consumer: it only refuses values."""
    wanted = leaves()
    assert len(wanted) > 100
    names: dict[str, set[str]] = {}
    for model, field in wanted:
        names.setdefault(model, set()).add(field)
    shutil.copytree(CHECKOUT / "e3mega", tmp_path / "e3mega")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "basic"}')
    for path in (tmp_path / "e3mega").rglob("*.py"):
        path.write_text(without_leaves(path, names), encoding="utf-8")
    read = {
        (model, field)
        for model, field, file in reads(tmp_path)
        if not file.startswith("e3mega/spec/")
    }
    for model, file in BY_NAME.items():
        text = (CHECKOUT / "e3mega" / file).read_text(encoding="utf-8")
        read |= {(model, name) for name in names[model] if f'"{name}"' in text}
    inherited = bases()
    dead = {
        f"{model}.{field}"
        for model, field in wanted
        if not any((base, field) in read for base in inherited[model])
    }
    assert dead == set(), "no consumer reads these; delete them, or read them"
