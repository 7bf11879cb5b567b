"""Makes the JSON Schema by which an editor completes and checks the keys of spec files.

It is looser than the compiler: any key may be missing, since a file states only what it is about,
and any value may be an interpolation.
"""

import copy
from typing import Any, cast

from pydantic import TypeAdapter

from e3mega.metrics import Json
from e3mega.options import Options
from e3mega.spec.descriptions import load_descriptions
from e3mega.spec.schema.curriculum import StageOptions
from e3mega.spec.schema.run import RunOptions

_INTERPOLATION: Json = {"type": "string", "pattern": r"\$\{"}
_NAMES: Json = {"type": "array", "items": {"type": "string"}}
_INCLUDE: Json = {
    "description": "Fragments, at the root or by the places where they are put.",
    "anyOf": [_NAMES, {"type": "object", "additionalProperties": _NAMES}],
}
_REPLACE: Json = {
    "description": "Places whose values are dropped, and the fragments put there instead.",
    "type": "object",
    "additionalProperties": _NAMES,
}


def json_schema() -> dict[str, Json]:
    """The schema of any spec file: a run, a fragment of sections, or a stage's fragment."""
    load_descriptions()
    definitions: dict[str, Json] = {}
    properties: dict[str, Json] = {"include": _INCLUDE, "replace": _REPLACE}
    # The run comes last: of the sections that both have, the run's word is shown.
    for model in (StageOptions, RunOptions):
        schema = _schema_of(model)
        definitions.update(cast("dict[str, Json]", schema.pop("$defs", {})))
        properties.update(cast("dict[str, Json]", schema["properties"]))
    root: dict[str, Json] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "e3mega spec",
        "type": "object",
        "additionalProperties": False,
        "properties": cast("Json", properties),
        "$defs": cast("Json", definitions),
    }
    return cast("dict[str, Json]", _loosened(root))


def _schema_of(model: type[Options]) -> dict[str, Any]:
    return copy.deepcopy(TypeAdapter(model).json_schema(mode="validation"))


def _loosened(schema: Json) -> Json:
    """The schema with no key required, every leaf open to null and to an interpolation."""
    if isinstance(schema, list):
        return [_loosened(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Json] = {}
    for name, each in schema.items():
        if name in ("required", "discriminator"):
            continue
        if name == "properties" and isinstance(each, dict):
            found[name] = {key: _open(_loosened(value)) for key, value in each.items()}
        elif name == "oneOf":
            found["anyOf"] = _loosened(each)
        else:
            found[name] = _loosened(each)
    return found


def _open(schema: Json) -> Json:
    """A property that may also be null or an interpolation."""
    assert isinstance(schema, dict), f"a property without a schema: {schema}"
    words = {name: schema[name] for name in ("description", "title") if name in schema}
    inner = {name: each for name, each in schema.items() if name not in words}
    return {**words, "anyOf": [inner, _INTERPOLATION, {"type": "null"}]}
