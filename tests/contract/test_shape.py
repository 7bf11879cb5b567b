"""Files and functions stay small, names say what things are, every option is described."""

import ast
import importlib
import io
import pkgutil
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import e3mega
from e3mega.options import Options
from e3mega.spec.descriptions import load_descriptions

CHECKOUT = Path(__file__).parents[2]
PACKAGE = sorted((CHECKOUT / "e3mega").rglob("*.py"))
SOURCES = [
    path for folder in ("e3mega", "tests", "tools") for path in (CHECKOUT / folder).rglob("*.py")
]
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_LEVELS = 350, 60, 5
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc", "base"}
DEVICE_FILES = {CHECKOUT / "e3mega" / "device.py", CHECKOUT / "e3mega" / "mcore" / "cpu.py"}
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def levels(node: ast.AST) -> int:
    """How deep the statements under a node are indented."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        step = int(isinstance(child, BLOCKS + SCOPES) and not is_elif)
        deepest = max(deepest, step + levels(child))
    return deepest


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_is_small_and_flat(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    tree = ast.parse(text)
    assert levels(tree) <= MAX_LEVELS
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, node.name


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_only_the_boundary_catches_everything(path: Path) -> None:
    """What catches BaseException to tidy up raises it again."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
        caught = "" if handler.type is None else ast.unparse(handler.type)
        is_broad = handler.type is None or caught in ("Exception", "BaseException")
        raises = isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None
        assert not is_broad or raises or path.name == "errors.py", f"line {handler.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_has_a_name_and_says_what_it_is_for(path: Path) -> None:
    assert path.stem not in VAGUE
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, "the module has no docstring"


@pytest.mark.parametrize("path", [path for path in PACKAGE if path not in DEVICE_FILES], ids=name)
def test_only_device_files_know_the_name_of_the_gpu_s_library(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    docstrings = {
        node.body[0].lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Module, *SCOPES)) and ast.get_docstring(node) is not None
    }
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_prose = token.type == tokenize.COMMENT or token.start[0] in docstrings
        assert is_prose or "cuda" not in token.string.lower(), f"line {token.start[0]}"


def option_models() -> Iterator[type[Options]]:
    """Every model of options that the light packages define."""
    for package in ("families", "tasks", "objective", "curriculum", "spec"):
        root = importlib.import_module(f"{e3mega.__name__}.{package}")
        for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            importlib.import_module(module.name)
    pending = Options.__subclasses__()
    while pending:
        model = pending.pop()
        pending += model.__subclasses__()
        # A test may have defined some of its own.
        if model.__module__.startswith(e3mega.__name__):
            yield model


def test_every_option_is_described() -> None:
    models = list(option_models())
    load_descriptions()
    assert len(models) > 15
    for model in models:
        assert model.__doc__, model.__name__
        for field, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{field} has no docstring"
            assert info.description.endswith("."), f"{model.__name__}.{field}"
