"""Prints what a spec may say: every key with its type, unit, default and description."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args, get_origin

from pydantic.fields import FieldInfo

from e3mega.errors import Problem, SpecError
from e3mega.options import Options
from e3mega.spec.describe import default_words, type_words, unit_words
from e3mega.spec.descriptions import load_descriptions
from e3mega.spec.fields import models_of, suggestion
from e3mega.spec.merge import INHERITED
from e3mega.spec.origins import Key, dotted
from e3mega.spec.schema.run import RunOptions

NAME = "NAME"
"""Stands in a key for any name that a person chooses, e.g. of a stage."""

_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of the schema. Example: ``Entry(("seed",), info, "")``."""

    key: Key
    info: FieldInfo
    kind: str
    """The ``kind`` that the field belongs to; empty outside of sections that have kinds."""


def entries(model: type[Options] = RunOptions, prefix: Key = ()) -> Iterator[Entry]:
    """Every field, sections before what they hold; a stage's inherited sections are not opened."""
    own = model.model_fields.get("kind")
    kind = str(get_args(own.annotation)[0]) if own is not None and get_args(own.annotation) else ""
    for name, info in model.model_fields.items():
        key = (*prefix, name)
        yield Entry(key, info, kind)
        is_inherited = prefix[:2] == ("curriculum", "stages") and name in INHERITED
        if is_inherited:
            continue
        inner: object = info.annotation
        if get_origin(inner) is dict:
            inner, key = get_args(inner)[1], (*key, NAME)
        for member in models_of(inner):
            yield from entries(member, key)


def reference_text(key: Key = ()) -> str:
    """The reference of all keys at or below ``key``.

    Raises SpecError with the nearest key when there is none.
    """
    load_descriptions()
    chosen = [entry for entry in entries() if entry.key[: len(key)] == key]
    if not chosen:
        raise SpecError(
            (Problem("command line", dotted(key), "an unknown key", "a key", suggestion(key)),)
        )
    lines: list[str] = []
    kind = ""
    for entry in chosen:
        if entry.kind != kind:
            kind = entry.kind
            lines += ["", f"{dotted(entry.key[:-1])} of kind {kind}"] if kind else [""]
        elif len(entry.key) == 1 and type_words(entry.info) == "a section":
            lines.append("")
        lines += _entry_lines(entry)
    return "\n".join(lines).strip("\n") + "\n"


def _entry_lines(entry: Entry) -> Iterator[str]:
    name, info = entry.key[-1], entry.info
    words = [type_words(info), unit_words(name, info), default_words(info)]
    head = f"{dotted(entry.key)}: {'; '.join(word for word in words if word)}"
    yield from textwrap.wrap(head, _WIDTH, subsequent_indent="        ", break_on_hyphens=False)
    description = " ".join((info.description or "").split())
    yield from textwrap.wrap(
        description, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )
