"""Finds the schema's fields by key: their types, their descriptions, and the nearest right name."""

import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from e3mega.errors import nearest
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
    models = _models_at(key)
    if not models:
        return None
    return {name: info for model in models for name, info in model.model_fields.items()}


def _models_at(key: Key) -> list[type[Options]]:
    """The models that a mapping at this key may be; none where any name goes or none does."""
    models: list[type[Options]] = [RunOptions]
    names_are_free = False
    for part in key:
        if names_are_free:
            names_are_free = False
            continue
        infos = [model.model_fields[part] for model in models if part in model.model_fields]
        if not infos:
            return []
        models = []
        for info in infos:
            if get_origin(info.annotation) is dict:
                names_are_free = True
                models += models_of(get_args(info.annotation)[1])
            else:
                models += models_of(info.annotation)
    return [] if names_are_free else models


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
    if key[-1] in fields:
        return f"remove it, or choose kind: {' or '.join(_kinds_with(key))}, which has it"
    near = nearest(key[-1], fields)
    if near:
        return f"did you mean {near}?"
    homes = [home for home in _homes(key[-1]) if home != key]
    if homes:
        return f"did you mean {dotted(homes[0])}?"
    return f"use one of {', '.join(fields)}"


def _kinds_with(key: Key) -> list[str]:
    """The kinds of a section that have the key, which the stated one lacks."""
    models = [model for model in _models_at(key[:-1]) if key[-1] in model.model_fields]
    return [get_args(model.model_fields["kind"].annotation)[0] for model in models]


def _homes(name: str) -> list[Key]:
    """Keys of the run's sections whose last part is, or is nearly, this name."""
    sections = [key for key in RunOptions.model_fields if key != "curriculum"]
    found = {(section, field) for section in sections for field in fields_at((section,)) or {}}
    found |= {(field,) for field in RunOptions.model_fields}
    exact = sorted(key for key in found if key[-1] == name)
    near = nearest(name, sorted({key[-1] for key in found}))
    return exact or sorted(key for key in found if key[-1] == near)
