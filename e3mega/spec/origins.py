"""The records of composition: where values stand in files, and which of them won."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from e3mega.metrics import Json

Key = tuple[str, ...]
"""A key of the spec as its parts, e.g. ``("layout", "learner", "tp")``."""


def dotted(key: Key) -> str:
    """The key as a person writes it. Example: ``layout.learner.tp``."""
    return ".".join(key) or "."


def within_stage(key: Key) -> Key:
    """The key as its stage sees it; empty outside the stages.

    Example: ``curriculum.stages.easy.task.half`` is ``task.half``.
    """
    return key[3:] if key[:2] == ("curriculum", "stages") else ()


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, or ``--set``. Example: ``Place("specs/runs/a.yaml", 3)``."""

    file: str
    line: int = 0
    """From 1; 0 for a place without lines."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Leaf:
    """The value that won at a key. A list is one leaf.

    Example: ``Leaf(64, Place("specs/fragments/stage/easy.yaml", 4))``.
    """

    value: Json
    place: Place
    inherited_from: Key = ()
    """In a stage: the key of the run's section that the value comes from."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one statement of a key that did not win.

    Example: ``Fate(("seed",), 1, Place("specs/runs/a.yaml", 2), "overridden by ...")``.
    """

    key: Key
    value: Json
    place: Place
    reason: str


@dataclass(frozen=True, slots=True)
class Composition:
    """The merged tree of a spec before typing, with the place of every value."""

    spec: Place
    """First line of the spec itself."""
    tree: dict[str, Json]
    leaves: dict[Key, Leaf]
    sections: dict[Key, Place] = field(default_factory=dict[Key, Place])
    """Where each mapping is first opened."""
    fates: tuple[Fate, ...] = ()
    """Every statement that did not win, with the reason."""

    def origin(self, key: Key) -> Leaf | None:
        """The leaf at a key, or the one list or switched-off section that holds it.

        An empty mapping holds nothing.
        """
        for length in range(len(key), 0, -1):
            leaf = self.leaves.get(key[:length])
            if leaf is not None and (length == len(key) or leaf.value != {}):
                return leaf
        return None

    def place(self, key: Key) -> Place:
        """Where a key is set, or the nearest section around it, or the spec's first line."""
        for length in range(len(key), 0, -1):
            part = key[:length]
            if part in self.leaves:
                return self.leaves[part].place
            if part in self.sections:
                return self.sections[part]
            inside = [leaf for each, leaf in self.leaves.items() if each[:length] == part]
            stated = [leaf for leaf in inside if not leaf.inherited_from]
            if stated:
                return stated[0].place
        return self.spec

    def stated_key(self, key: Key) -> Key:
        """The key under which a person wrote a value that a stage inherits."""
        for length in range(len(key), 0, -1):
            leaf = self.leaves.get(key[:length])
            if leaf is not None and leaf.inherited_from:
                return leaf.inherited_from + key[length:]
        inside = [leaf for each, leaf in self.leaves.items() if each[: len(key)] == key]
        if inside and all(leaf.inherited_from for leaf in inside):
            return within_stage(key)
        return key


def flatten(tree: dict[str, Json], prefix: Key = ()) -> Iterator[tuple[Key, Json]]:
    """Every leaf of a tree with its key, depth first; an empty mapping is a leaf."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def refers(value: Json) -> bool:
    """Whether a value holds an interpolation, ``${...}``."""
    if isinstance(value, list):
        return any(refers(item) for item in value)
    return isinstance(value, str) and "${" in value
