"""What a rule says when it is broken, and how it becomes a problem with its places."""

import json
from dataclasses import dataclass

from e3mega.errors import Problem
from e3mega.metrics import Json
from e3mega.spec.origins import Composition, Key, dotted, within_stage
from e3mega.spec.schema.run import RunOptions


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that the value at ``key`` breaks.

    ``{0}``, ``{1}`` in ``need`` stand for the keys in ``cites``, shown with value and place.
    Example: ``Finding(("layout", "learner", "tp"), "a divisor of {0}", "use 1, 2 or 4",
    (("model", "num_heads"),))``.
    """

    key: Key
    need: str
    fix: str
    cites: tuple[Key, ...] = ()


def as_problem(finding: Finding, options: RunOptions, composition: Composition) -> Problem:
    """The finding with the value that is there and the places of all values it names."""
    cited = [
        f"{dotted(_stated(key, composition))} = {_value(options, key)} ({_place(key, composition)})"
        for key in finding.cites
    ]
    return Problem(
        where=str(composition.place(_stated(finding.key, composition))),
        key=dotted(_stated(finding.key, composition)),
        got=_value(options, finding.key)
        + ("" if composition.origin(finding.key) else " (the default)"),
        need=finding.need.format(*cited),
        fix=finding.fix,
    )


def _stated(key: Key, composition: Composition) -> Key:
    """The key where a person wrote the value, or would: the run's, for a default in a section
    that the stage does not mention."""
    stated = composition.stated_key(key)
    inner = within_stage(stated)
    if len(inner) < 2 or inner[0] not in RunOptions.model_fields:
        return stated
    is_mentioned = any(
        other[:4] == stated[:4] and not leaf.inherited_from
        for other, leaf in composition.leaves.items()
    )
    return stated if is_mentioned else inner


def _place(key: Key, composition: Composition) -> str:
    leaf = composition.origin(key)
    return str(leaf.place) if leaf is not None else "the default"


def _value(options: RunOptions, key: Key) -> str:
    value: Json = options.model_dump(mode="json")
    for part in key:
        if isinstance(value, dict):
            value = value[part]
    return _shown(value)


def _shown(value: Json) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(value)}}}"
    return value if isinstance(value, str) else json.dumps(value)
