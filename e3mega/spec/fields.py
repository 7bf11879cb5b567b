"""Finds the schema's fields by key: their types, their descriptions, and the nearest right name."""

import difflib
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from e3mega.metrics import Json
from e3mega.options import Options
from e3mega.spec.origins import Key, dotted, refers
from e3mega.spec.schema.run import RunOptions


def models_of(annotation: object) -> Iterator[type[Options]]:
    """The option models that a field's type may be; of a union, each member."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from models_of(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from models_of(member)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        assert issubclass(annotation, Options), f"{annotation} is no Options"
        yield annotation


def fields_at(key: Key) -> dict[str, FieldInfo] | None:
    """The fields that a mapping at this key may have; None where any name goes or none does.

    Of a union all members' fields are given.
    """
    models: list[type[Options]] = [RunOptions]
    names_are_free = False
    for part in key:
        if names_are_free:
            names_are_free = False
            continue
        infos = [model.model_fields[part] for model in models if part in model.model_fields]
        if not infos:
            return None
        models = []
        for info in infos:
            if get_origin(info.annotation) is dict:
                names_are_free = True
                models += models_of(get_args(info.annotation)[1])
            else:
                models += models_of(info.annotation)
    if names_are_free or not models:
        return None
    return {name: info for model in models for name, info in model.model_fields.items()}


def is_known(key: Key) -> bool:
    """Whether the schema has a field at this key, or lets any name stand there."""
    fields = fields_at(key[:-1])
    if fields is not None:
        return key[-1] in fields
    parent = fields_at(key[:-2]) or {}
    return key[-2] in parent and get_origin(parent[key[-2]].annotation) is dict


@cache
def _adapter(key: Key) -> TypeAdapter[Any] | None:
    """What types the value of a field; None for a key that the schema lacks."""
    info = (fields_at(key[:-1]) or {}).get(key[-1])
    if info is None:
        return None
    annotation: Any = info.annotation
    for constraint in info.metadata:
        annotation = Annotated[annotation, constraint]
    return TypeAdapter[Any](annotation)


def same_after_typing(key: Key, left: Json, right: Json) -> bool:
    """Whether two stated values mean the same, e.g. ``8k`` and ``8192`` for a token count."""
    if refers(left) or refers(right):
        return left == right and type(left) is type(right)
    adapter = _adapter(key)
    if adapter is not None:
        try:
            return bool(adapter.validate_python(left) == adapter.validate_python(right))
        except ValidationError:
            pass  # A value of the wrong type is reported when the whole spec is typed.
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def suggestion(key: Key) -> str:
    """What to do about an unknown key: the nearest right one, or where the name belongs."""
    fields = fields_at(key[:-1])
    if fields is None:
        return "remove it"
    near = difflib.get_close_matches(key[-1], list(fields), n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    homes = [home for home in _homes(key[-1]) if home != key]
    if homes:
        return f"did you mean {dotted(homes[0])}?"
    return f"use one of {', '.join(fields)}"


def _homes(name: str) -> list[Key]:
    """Keys of the run's sections whose last part is, or is nearly, this name."""
    sections = [key for key in RunOptions.model_fields if key != "curriculum"]
    found = {(section, field) for section in sections for field in fields_at((section,)) or {}}
    found |= {(field,) for field in RunOptions.model_fields}
    exact = sorted(key for key in found if key[-1] == name)
    names = sorted({key[-1] for key in found})
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
    return exact or sorted(key for key in found if near and key[-1] == near[0])
