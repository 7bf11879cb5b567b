"""Tells the story of one value: what it means, who set it, and why the winner won."""

import textwrap
from collections.abc import Iterator

from e3mega.errors import Problem, SpecError, nearest
from e3mega.metrics import Json
from e3mega.spec.describe import default_words, type_words, unit_words, value_words
from e3mega.spec.descriptions import load_descriptions
from e3mega.spec.fields import fields_at, is_known, suggestion
from e3mega.spec.origins import Fate, Key, Leaf, dotted, flatten
from e3mega.spec.resolve import Resolved

_WIDTH = 80


def explanation(resolved: Resolved, key: Key) -> str:
    """The story of the value at a key; of a section, the story of every value in it.

    Raises SpecError with the nearest key when the spec has none there.
    """
    load_descriptions()
    tree: Json = resolved.options.model_dump(mode="json")
    for length, part in enumerate(key):
        if not isinstance(tree, dict) or part not in tree:
            raise SpecError((_no_such_key(resolved, key[: length + 1], tree),))
        tree = tree[part]
    if not isinstance(tree, dict) or not tree:
        return "\n".join(_story(resolved, key, tree)) + "\n"
    stories = (_story(resolved, key + inner, value) for inner, value in flatten(tree))
    return "\n\n".join("\n".join(story) for story in stories) + "\n"


def _no_such_key(resolved: Resolved, key: Key, tree: Json) -> Problem:
    if tree is None and is_known(key):
        above = dotted(key[:-1])
        leaf = resolved.composition.origin(key[:-1])
        where = "by default" if leaf is None else f"by {leaf.place}"
        got, fix = f"{above} = null, {where}", f"explain {above}, or set a key below it"
        return Problem("command line", dotted(key), got, "a key that the spec has", fix)
    names = list(tree) if isinstance(tree, dict) else []
    near = nearest(key[-1], names)
    if near:
        fix = f"did you mean {dotted((*key[:-1], near))}?"
    elif names and is_known(key):
        fix = f"the spec has {', '.join(names)} there"
    else:
        fix = suggestion(key)
    return Problem("command line", dotted(key), "an unknown key", "a key of the spec", fix)


def _story(resolved: Resolved, key: Key, value: Json) -> Iterator[str]:
    """The value, its description, then every statement of it, the winner first."""
    yield f"{dotted(key)} = {value_words(value)}"
    info = (fields_at(key[:-1]) or {}).get(key[-1])
    default = "required"
    if info is not None:
        yield from _wrapped(" ".join((info.description or "").split()), "    ")
        default = default_words(info)
        words = [type_words(info), unit_words(key[-1], info), default]
        yield from _wrapped("; ".join(word for word in words if word), "    ")
    leaf = resolved.composition.origin(key)
    losers = _losers(resolved, key)
    if leaf is None:
        yield "  the default stands: no file that counts sets it"
    else:
        yield f"  {leaf.place}"
        yield from _wrapped(f"{value_words(leaf.value)}: wins; {_why(leaf, losers)}", "      ")
    for fate in losers:
        yield f"  {fate.place}"
        yield from _wrapped(f"{value_words(fate.value)}: {fate.reason}", "      ")


def _losers(resolved: Resolved, key: Key) -> list[Fate]:
    """Every statement of the key that did not win, those of the run's key included if the stage
    has it from there."""
    stated = resolved.composition.stated_key(key)
    return [
        fate
        for fate in resolved.composition.fates
        if fate.key in (key, stated) or (fate.value is None and stated[: len(fate.key)] == fate.key)
    ]


def _why(leaf: Leaf, losers: list[Fate]) -> str:
    inherited = f"; inherited from {dotted(leaf.inherited_from)}" if leaf.inherited_from else ""
    if leaf.place.file.startswith("--set"):
        return "the command line lies over all files" + inherited
    is_over = any(fate.reason.startswith("overridden") for fate in losers)
    return ("it lies above the others" if is_over else "no other file sets it") + inherited


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
