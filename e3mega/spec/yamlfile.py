"""Reads one YAML file into values that know their lines, without YAML's surprises.

Plain scalars are null, true, false, decimal numbers (``1e-6`` is one) or text: ``on``, ``yes``,
dates, ``0x10`` and ``010`` are text. Anchors, aliases, tags, duplicate keys and several documents
are refused.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import yaml

from e3mega.errors import Problem
from e3mega.metrics import Json
from e3mega.spec.origins import Key, Place, dotted

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Json] = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """One leaf of a file, its key relative to the file. ``{}`` stands for an empty mapping."""

    key: Key
    value: Json
    line: int
    item_lines: tuple[int, ...] = ()
    """Of a list: the line of each item."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What stands in one file."""

    settings: tuple[Setting, ...]
    sections: tuple[tuple[Key, int], ...]
    """Every mapping with the line of its key, outer ones first."""


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that a spec may not use."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without anchors and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = cast("Any", self).peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused(None, None, "an anchor or alias (& or *)", event.start_mark)
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _Refused(None, None, f"the tag {tag}", event.start_mark)
        return super().compose_node(parent, index)


def plain_scalar(text: str) -> Json:
    """The value of an unquoted scalar. Example: ``plain_scalar("1e-6") == 1e-6``."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def parse_scalar_text(text: str) -> Json:
    """The value of one ``--set``: a YAML scalar, list or mapping.

    Raises yaml.YAMLError when the text is not YAML that a spec may use.
    """
    node = _Loader(text).get_single_node()
    return None if node is None else _plain_value(node)


def parse_yaml(text: str, file: str, report: Callable[[Problem], None]) -> Parsed:
    """The settings of a file; what is wrong with it is reported, and the rest is returned."""
    try:
        node = _Loader(text).get_single_node()
    except yaml.YAMLError as error:
        report(_syntax_problem(error, file))
        return Parsed((), ())
    if node is None:
        return Parsed((), ())
    if not isinstance(node, yaml.MappingNode):
        place = str(Place(file, node.start_mark.line + 1))
        report(Problem(place, ".", _kind(node), "a mapping", "write keys and values"))
        return Parsed((), ())
    settings: list[Setting] = []
    sections: list[tuple[Key, int]] = []
    _Walk(file, report, settings, sections).mapping(node, ())
    return Parsed(tuple(settings), tuple(sections))


@dataclass(frozen=True, slots=True)
class _Walk:
    """Collects the leaves and the mappings of one file."""

    file: str
    report: Callable[[Problem], None]
    settings: list[Setting]
    sections: list[tuple[Key, int]]

    def mapping(self, node: yaml.MappingNode, prefix: Key) -> None:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            where = str(Place(self.file, line))
            is_scalar = isinstance(key_node, yaml.ScalarNode)
            if not is_scalar or key_node.value in ("", "<<"):
                fix = "write the key as a word"
                got = f"{key_node.value!r} as a key" if is_scalar else "a list or mapping as a key"
                self.report(Problem(where, dotted(prefix), got, "a name", fix))
                continue
            name, key = key_node.value, (*prefix, key_node.value)
            if name in seen:
                got = f"the key twice, at lines {seen[name]} and {line}"
                self.report(Problem(where, dotted(key), got, "each key once", "remove one"))
                continue
            seen[name] = line
            if isinstance(value_node, yaml.MappingNode):
                self.sections.append((key, line))
                if value_node.value:
                    self.mapping(value_node, key)
                    continue
            for duplicate, at in _duplicates(value_node):
                got = f"the key {duplicate!r} twice"
                self.report(
                    Problem(str(Place(self.file, at)), dotted(key), got, "once", "remove one")
                )
            is_list = isinstance(value_node, yaml.SequenceNode)
            items = [item.start_mark.line + 1 for item in value_node.value] if is_list else []
            self.settings.append(Setting(key, _plain_value(value_node), line, tuple(items)))


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _duplicates(node: yaml.Node) -> list[tuple[str, int]]:
    """Keys that stand twice in a mapping inside a list, with their lines."""
    found: list[tuple[str, int]] = []
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            found += _duplicates(item)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value_node in node.value:
            if str(key_node.value) in seen:
                found.append((str(key_node.value), key_node.start_mark.line + 1))
            seen.add(str(key_node.value))
            found += _duplicates(value_node)
    return found


def _plain_value(node: yaml.Node) -> Json:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain_value(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain_value(item) for item in node.value]
    assert isinstance(node, yaml.ScalarNode), f"a YAML node of type {type(node)}"
    return plain_scalar(node.value) if node.style is None else node.value


def _syntax_problem(error: yaml.YAMLError, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else 1
    what = str(getattr(error, "problem", None) or error).strip().splitlines()[0]
    if isinstance(error, _Refused):
        fix = "write the value out, or move it into a fragment that both include"
        return Problem(str(Place(file, line)), ".", what, "plain YAML", fix)
    fix = "mend the syntax at this line or just above it"
    return Problem(str(Place(file, line)), ".", what, "valid YAML", fix)
