"""Writes a resolved spec as YAML that a person can read: every value with its origin beside it.

The text is itself a spec that resolves to the same options.
"""

import json
import re
from collections.abc import Iterator

from e3mega.metrics import Json
from e3mega.spec.fingerprint import run_fingerprint
from e3mega.spec.merge import INHERITED
from e3mega.spec.origins import Composition, Key
from e3mega.spec.resolve import Resolved
from e3mega.spec.yamlfile import plain_scalar

_WIDTH = 80
_ORIGIN_COLUMN = 28
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")


def resolved_text(resolved: Resolved) -> str:
    """All values in the order of the schema, at 80 columns.

    Of a stage's sections only what differs from the run's is written; the rest it inherits.
    """
    tree: dict[str, Json] = resolved.options.model_dump(mode="json")
    composition = resolved.composition
    head = [
        f"# {resolved.options.name}, resolved from {composition.spec.file}",
        f"# fingerprint {run_fingerprint(resolved.options)}",
    ]
    return "\n".join([*head, *_lines(_with_stages_cut(tree), (), composition)]) + "\n"


def _with_stages_cut(tree: dict[str, Json]) -> dict[str, Json]:
    """The tree without what its stages have from the run's sections."""
    curriculum = tree["curriculum"]
    assert isinstance(curriculum, dict) and isinstance(curriculum["stages"], dict)
    stages: dict[str, Json] = {}
    for name, stage in curriculum["stages"].items():
        assert isinstance(stage, dict), f"stage {name} is no mapping"
        cut: dict[str, Json] = {}
        for key, value in stage.items():
            kept = _difference(value, tree[key]) if key in INHERITED else value
            if kept != {}:
                cut[key] = kept
        stages[name] = cut
    return {**tree, "curriculum": {**curriculum, "stages": stages}}


def _difference(value: Json, run: Json) -> Json:
    """What a stage's section has otherwise than the run's; all of it if it is of another kind."""
    if not isinstance(value, dict) or not isinstance(run, dict):
        return value
    if value.get("kind") != run.get("kind"):
        return value
    found: dict[str, Json] = {}
    for key, inner in value.items():
        if key not in run or inner != run[key]:
            found[key] = _difference(inner, run[key]) if key in run else inner
    return found


def _lines(tree: dict[str, Json], key: Key, composition: Composition) -> Iterator[str]:
    indent = "  " * len(key)
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{_scalar(name)}:"
            yield from _lines(value, (*key, name), composition)
            continue
        leaf = composition.origin((*key, name))
        origin = f"# {leaf.place}" if leaf is not None else "# default"
        line = f"{indent}{_scalar(name)}: {_flow(value)}"
        beside = f"{line:<{_ORIGIN_COLUMN}}  {origin}"
        if len(beside) <= _WIDTH:
            yield beside
        else:
            yield f"{indent}{origin}"
            yield line


def _flow(value: Json) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_scalar(name)}: {_flow(item)}" for name, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, str):
        return _scalar(value)
    return "null" if value is None else json.dumps(value)


def _scalar(text: str) -> str:
    is_plain = _PLAIN.fullmatch(text) is not None and plain_scalar(text) == text
    return text if is_plain else json.dumps(text, ensure_ascii=False)
