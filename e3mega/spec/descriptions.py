"""Gives the schema's fields the descriptions that stand below them in the source.

pydantic can do it when a class is made, but that takes a third of the time of a plan, which needs
none of them.
"""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from e3mega.options import Options


@cache
def load_descriptions() -> None:
    """Set ``description`` of every field of every model of options that is imported."""
    for model in _models(Options):
        for name, info in model.model_fields.items():
            written = (_written(base).get(name) for base in model.__mro__)
            info.description = next((text for text in written if text), None)


def _models(root: type[Options]) -> Iterator[type[Options]]:
    for model in root.__subclasses__():
        yield model
        yield from _models(model)


@cache
def _written(model: type) -> dict[str, str]:
    """The strings that stand below the annotated names of a class."""
    if not issubclass(model, Options):
        return {}
    for node in ast.walk(_tree(inspect.getfile(model))):
        if isinstance(node, ast.ClassDef) and node.name == model.__name__:
            return dict(_pairs(node.body))
    return {}


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def _pairs(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if not isinstance(text, ast.Expr) or not isinstance(text.value, ast.Constant):
            continue
        if isinstance(text.value.value, str):
            yield field.target.id, inspect.cleandoc(text.value.value)
