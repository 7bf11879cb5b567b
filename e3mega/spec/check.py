"""Types a composed tree as RunOptions, and says of each thing that is wrong where it stands."""

import json
import re
from collections.abc import Callable
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from e3mega.errors import Problem, nearest
from e3mega.metrics import Json
from e3mega.spec.descriptions import load_descriptions
from e3mega.spec.fields import fields_at, is_known, suggestion
from e3mega.spec.merge import INHERITED
from e3mega.spec.origins import Composition, Key, dotted, within_stage
from e3mega.spec.schema.run import RunOptions

_NEEDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "union_tag_not_found": "the key kind",
}
"""What each of pydantic's complaints about a type asks for."""


def type_check(composition: Composition, report: Callable[[Problem], None]) -> RunOptions | None:
    """The typed spec, or None after reporting every key that does not fit the schema."""
    try:
        return RunOptions.model_validate_json(json.dumps(composition.tree))
    except ValidationError as error:
        seen: set[Problem] = set()
        for details in error.errors(include_url=False):
            problem = _problem(composition, details)
            if problem is not None and problem not in seen:
                seen.add(problem)
                report(problem)
        return None


def _problem(composition: Composition, details: ErrorDetails) -> Problem | None:
    key, value = _located(composition.tree, details["loc"])
    kind = details["type"]
    if kind == "missing" and _is_missing_in_run_too(composition, key):
        return None
    if kind == "extra_forbidden":
        return _unknown_key(composition, key)
    if kind == "union_tag_invalid":
        key, value = (*key, "kind"), value["kind"]
    shown = composition.stated_key(key)
    where = str(composition.place(shown))
    if kind == "missing":
        fix = f"set {dotted(shown)}{_description(key)}"
        return Problem(where, dotted(shown), "nothing", "a value", fix)
    need = _NEEDS.get(kind) or _need(details)
    leaf = composition.origin(key)
    is_switched_off = value is None and leaf is not None
    fix = "give it a value: it cannot be off" if is_switched_off else _fix(key, details, need)
    return Problem(where, dotted(shown), _shown(value), need, fix)


def _located(tree: Json, location: tuple[int | str, ...]) -> tuple[Key, Any]:
    """The key that pydantic's location stands for, less its marks of union members."""
    key: list[str] = []
    value: Json = tree
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if isinstance(value, dict):
            if part in value:
                value = value[str(part)]
            elif not is_last or value.get("kind") == part:
                continue
            else:
                value = None
            key.append(str(part))
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
            key.append(str(part))
    return tuple(key), value


def _is_missing_in_run_too(composition: Composition, key: Key) -> bool:
    """Whether a stage lacks a key only because the run's section lacks it."""
    inner = within_stage(key)
    if len(inner) < 2 or inner[0] not in INHERITED:
        return False
    states_section = any(
        other[:4] == key[:4] and not leaf.inherited_from
        for other, leaf in composition.leaves.items()
    )
    section = composition.tree.get(inner[0])
    return not states_section and (not isinstance(section, dict) or inner[-1] not in section)


def _unknown_key(composition: Composition, key: Key) -> Problem:
    """A key that the schema lacks, at the outermost part that is unknown."""
    for length in range(1, len(key) + 1):
        if not is_known(key[:length]):
            key = key[:length]
            break
    shown = composition.stated_key(key)
    where = str(composition.place(shown))
    if key[-1] in ("include", "replace"):
        fix = "stand it at the top of the file: include: {mount.point: [stage/easy]}"
    elif "." in key[-1]:
        fix = f"nest it: {key[-1].replace('.', ': {')}: ..."
    else:
        fix = suggestion(shown)
    return Problem(where, dotted(shown), "an unknown key", "a key of the schema", fix)


def _description(key: Key) -> str:
    load_descriptions()
    info = (fields_at(key[:-1]) or {}).get(key[-1])
    return f" ({info.description.rstrip('.')})" if info is not None and info.description else ""


def _need(details: ErrorDetails) -> str:
    context = cast("dict[str, object]", details.get("ctx", {}))
    choices = _choices(details)
    if choices:
        return f"one of {', '.join(choices)}"
    bounds = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    for name, words in bounds.items():
        if name in context:
            return f"{words} {context[name]}"
    return details["msg"][0].lower() + details["msg"][1:]


def _choices(details: ErrorDetails) -> list[str]:
    """The words that pydantic would have taken, where it takes only some."""
    context = cast("dict[str, object]", details.get("ctx", {}))
    expected = context.get("expected_tags") or context.get("expected")
    return re.findall(r"'([^']*)'", str(expected)) if expected else []


def _fix(key: Key, details: ErrorDetails, need: str) -> str:
    name = [part for part in key if not part.isdigit()][-1]
    choices = _choices(details)
    if choices:
        given = cast("Json", details["input"])
        word = str(given.get("kind") if isinstance(given, dict) else given)
        near = nearest(word, choices)
        return f"did you mean {near}?" if near else "use one of these"
    if name.endswith("tokens") or name in ("budgets", "candidates"):
        return "write a number of tokens as 8192 or 8k"
    if details["type"] == "string_type":
        return "quote it"
    return f"write {need}"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
