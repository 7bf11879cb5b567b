"""Replaces every ``${...}`` of a composed spec by what it refers to.

``${section.key}`` is the value that files set at another key, from the root; ``${.key}`` starts at
the section where it stands. ``${add:a,b}``, ``${mul:a,b}``, ``${div:a,b}``, ``${min:a,b}`` and
``${max:a,b}`` compute with numbers and token counts (``8k``). Nothing else may be called: a spec
reads no environment, file or clock.
"""

import re
from collections.abc import Callable
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from e3mega.errors import Problem
from e3mega.metrics import Json
from e3mega.options import parse_token_count
from e3mega.spec.origins import Key, Leaf, dotted, refers

Number = int | float

RESOLVERS: dict[str, Callable[[Number, Number], Number]] = {
    "add": lambda left, right: left + right,
    "mul": lambda left, right: left * right,
    "div": lambda left, right: _whole(left / right),
    "min": min,
    "max": max,
}
"""What a spec may call, by name; each takes two numbers."""

_CALL = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")


def _whole(value: float) -> Number:
    return int(value) if value.is_integer() else value


def _resolver(compute: Callable[[Number, Number], Number]) -> Callable[[object, object], Number]:
    def resolve(left: object, right: object) -> Number:
        return compute(_number(left), _number(right))

    return resolve


def _number(value: object) -> Number:
    count = parse_token_count(value)
    if isinstance(count, bool) or not isinstance(count, int | float):
        raise ValueError(f"{value!r} is no number")
    return count


for _name, _compute in RESOLVERS.items():
    OmegaConf.register_resolver(_name, _resolver(_compute), replace=True)


def interpolate(
    leaves: dict[Key, Leaf],
    tree_of: Callable[[dict[Key, Leaf]], dict[str, Json]],
    report: Callable[[Problem], None],
) -> dict[Key, Leaf]:
    """The leaves with every reference resolved; those that cannot be are reported, left out."""
    leaves = {
        key: leaf
        for key, leaf in leaves.items()
        if not refers(leaf.value) or _can_be_read(key, leaf, report)
    }
    config = OmegaConf.create(tree_of(leaves))
    found: dict[Key, Leaf] = {}
    for key, leaf in leaves.items():
        if not refers(leaf.value):
            found[key] = leaf
            continue
        try:
            value = _looked_up(config, key)
        except (OmegaConfBaseException, RecursionError) as error:
            report(_dangling(key, leaf, error))
        else:
            found[key] = Leaf(value, leaf.place, leaf.inherited_from)
    return found


def _can_be_read(key: Key, leaf: Leaf, report: Callable[[Problem], None]) -> bool:
    """Whether an interpolation is one that a spec may have."""
    unknown = [name for name in _CALL.findall(str(leaf.value)) if name not in RESOLVERS]
    if unknown:
        need = f"a reference to a key, or one of {', '.join(RESOLVERS)}"
        fix = "write the value, or refer to a key as ${section.key}"
        report(Problem(str(leaf.place), dotted(key), repr(leaf.value), need, fix))
        return False
    try:
        OmegaConf.create({"value": leaf.value})
    except OmegaConfBaseException as error:
        report(_dangling(key, leaf, error))
        return False
    return True


def _looked_up(config: Any, key: Key) -> Json:
    """The value at a key with its interpolations resolved."""
    node = config
    for part in key:
        node = node[part]
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    return cast("Json", node)


def _dangling(key: Key, leaf: Leaf, error: Exception) -> Problem:
    reason = str(error).splitlines()[0] if isinstance(error, OmegaConfBaseException) else "a cycle"
    got = f"{leaf.value!r} ({reason})"
    fix = "refer to a key that is set, from the root as ${section.key}"
    return Problem(str(leaf.place), dotted(key), got, "an interpolation that resolves", fix)
