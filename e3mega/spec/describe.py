"""Says in words what a field of the schema takes, in which unit, and what its default is."""

import types
from enum import Enum
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from e3mega.options import parse_token_count

_PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_BOUNDS = {Gt: "above", Ge: "of at least", Lt: "below", Le: "of at most"}
_SUFFIXES = {
    "tokens": "tokens",
    "s": "seconds",
    "bytes": "bytes",
    "frac": "a share from 0 to 1",
}


def type_words(info: FieldInfo) -> str:
    """What a field takes. Example: ``a number of at least 0``."""
    annotation: Any = info.annotation
    for constraint in info.metadata:
        annotation = Annotated[annotation, constraint]
    return _words(annotation)


def unit_words(name: str, info: FieldInfo) -> str:
    """The unit of a field; empty for what has none. Example: ``tokens (8k is 8192)``."""
    if _counts_tokens(info):
        return "tokens (8k is 8192)"
    if "_per_" in name:
        counted, per = name.split("_per_", 1)
        return f"{counted.replace('_', ' ')} per {per.replace('_', ' ')}"
    if name.startswith("num_"):
        return name.removeprefix("num_").replace("_", " ")
    return _SUFFIXES.get(name.rsplit("_", 1)[-1], "") if "_" in name else ""


def default_words(info: FieldInfo) -> str:
    """The default of a field as a spec would write it; ``required`` where there is none."""
    if info.is_required():
        return "required"
    value: Any = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its defaults"
    return f"default {value_words(value)}"


def value_words(value: object) -> str:
    """A value as a spec would write it. Example: ``value_words((1, None)) == "[1, null]"``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | list):
        items = cast("list[object]", value)
        return f"[{', '.join(value_words(item) for item in items)}]"
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return "{" + ", ".join(f"{name}: {value_words(each)}" for name, each in pairs) + "}"
    return str(value)


def _words(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *constraints = get_args(annotation)
        return _bounded(inner, constraints)
    if origin in (Union, types.UnionType):
        members = [each for each in get_args(annotation) if each is not type(None)]
        words = " or ".join(dict.fromkeys(_words(each) for each in members))
        return words if len(members) == len(get_args(annotation)) else f"{words}, or null"
    if origin is tuple:
        return f"a list, each {_words(get_args(annotation)[0])}"
    if origin is dict:
        return f"a mapping of names, each {_words(get_args(annotation)[1])}"
    if origin is Literal:
        return " or ".join(value_words(each) for each in get_args(annotation))
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if issubclass(annotation, Enum):
        return f"one of {', '.join(str(member.value) for member in annotation)}"
    assert issubclass(annotation, BaseModel), f"no words for the type {annotation}"
    return "a section"


def _bounded(inner: Any, constraints: list[Any]) -> str:
    words = _words(inner)
    for constraint in constraints:
        for kind, text in _BOUNDS.items():
            if isinstance(constraint, kind):
                bound = getattr(constraint, kind.__name__.lower())
                words += f"{' and' if any(b in words for b in _BOUNDS.values()) else ''}"
                words += f" {text} {bound:g}"
        if isinstance(constraint, FieldInfo):
            words = _bounded(inner, list(constraint.metadata))
    return words


def _counts_tokens(info: FieldInfo) -> bool:
    return any(
        isinstance(each, BeforeValidator) and each.func is parse_token_count
        for each in _constraints(info.annotation, list(info.metadata))
    )


def _constraints(annotation: Any, found: list[Any]) -> list[Any]:
    """All marks of an annotation and of what it is made of."""
    if get_origin(annotation) is Annotated:
        annotation, *own = get_args(annotation)
        found = [*found, *own]
    for member in get_args(annotation):
        found = _constraints(member, found)
    return found
