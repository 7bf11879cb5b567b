"""Follows the includes of a spec into a graph of files at mounts, and says who reaches whom."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from e3mega.errors import Problem, nearest
from e3mega.metrics import Json
from e3mega.spec.origins import Key, Place, dotted
from e3mega.spec.yamlfile import Parsed, Setting, parse_scalar_text, parse_yaml

LIBRARY = Path(__file__).resolve().parents[2] / "specs"
"""The checkout's ``fragments/`` and ``runs/``."""


@dataclass(frozen=True, slots=True)
class Node:
    """One file at one mount. Example: ``Node("specs/fragments/loss/sft.yaml", ())``."""

    label: str
    mount: Key

    def __str__(self) -> str:
        return f"{self.label} at {dotted(self.mount)}" if self.mount else self.label


@dataclass(frozen=True, slots=True)
class Assignment:
    """A leaf as one node states it, with its absolute key."""

    key: Key
    value: Json
    node: Node
    place: Place


@dataclass(frozen=True, slots=True)
class Erasure:
    """What ``replace`` drops: all that ``nodes`` set at or below ``key``."""

    key: Key
    nodes: frozenset[Node]
    place: Place


@dataclass(slots=True)
class Graph:
    """Everything that the files of a spec say, before any of it wins."""

    assignments: list[Assignment] = field(default_factory=list[Assignment])
    sections: dict[Key, Place] = field(default_factory=dict[Key, Place])
    """Where each mapping is opened; for a mount, the line of the mount."""
    below: dict[Node, frozenset[Node]] = field(default_factory=dict[Node, frozenset[Node]])
    """All nodes that a node reaches by includes and replacements, itself left out."""
    erasures: list[Erasure] = field(default_factory=list[Erasure])

    def reaches(self, upper: Node, lower: Node) -> bool:
        """Whether ``upper`` overrides ``lower``."""
        return lower in self.below[upper]


@dataclass(frozen=True, slots=True)
class _Reference:
    """One name in an ``include`` or ``replace``."""

    name: str
    mount: Key
    place: Place


@dataclass(slots=True)
class GraphReader:
    """Reads files once each, and builds the graph.

    Problems are reported, not raised; what could not be read is left out.
    """

    report: Callable[[Problem], None]
    library: Path = LIBRARY
    graph: Graph = field(default_factory=Graph)
    _parsed: dict[Path, Parsed] = field(default_factory=dict[Path, Parsed])
    _done: dict[tuple[Path, Key], Node] = field(default_factory=dict[tuple[Path, Key], Node])

    def label(self, path: Path) -> str:
        """The path as messages show it: relative to the checkout where it lies inside it."""
        home = self.library.parent.resolve()
        resolved = path.resolve()
        if resolved.is_relative_to(home):
            return str(resolved.relative_to(home))
        return os.path.normpath(path)

    def read_spec(self, path: Path, set_files: Sequence[Path], sets: Sequence[str]) -> Place:
        """Read a spec with what the command line lays over it; gives its first line's place."""
        top = self._node(path, (), ())
        below = self.graph.below[top] | {top}
        files = [self._node(file, (), ()) for file in set_files]
        for node in files:
            self.graph.below[node] |= below
        for node in files:
            below |= self.graph.below[node] | {node}
        command = Node("--set", ())
        self.graph.below[command] = below
        self._command_line(command, sets)
        return Place(top.label, 1)

    def _command_line(self, node: Node, sets: Sequence[str]) -> None:
        seen: set[Key] = set()
        for text in sets:
            place = Place(f"--set {text}")
            name, separator, value_text = text.partition("=")
            key = tuple(name.strip().split("."))
            if not separator or not all(key):
                fix = "write --set layout.learner.tp=2"
                self.report(Problem("--set", name, repr(text), "key=value", fix))
                continue
            if key in seen:
                got = "the key twice on the command line"
                self.report(Problem("--set", dotted(key), got, "each key once", "remove one"))
            seen.add(key)
            try:
                value = parse_scalar_text(value_text)
            except yaml.YAMLError:
                need = "a YAML scalar or list"
                self.report(Problem("--set", name, repr(value_text), need, "quote the value"))
                continue
            self.graph.assignments.append(Assignment(key, value, node, place))

    def _node(self, path: Path, mount: Key, chain: tuple[Path, ...]) -> Node:
        resolved = path.resolve()
        if (resolved, mount) in self._done:
            return self._done[resolved, mount]
        node = self._done[resolved, mount] = Node(self.label(path), mount)
        self.graph.below[node] = frozenset()
        parsed = self._parse(path, node.label)
        chain = (*chain, resolved)
        includes: list[_Reference] = []
        replaces: list[Setting] = []
        for setting in parsed.settings:
            if setting.key[0] == "include":
                includes += self._references(setting, node)
            elif setting.key[0] == "replace":
                replaces.append(setting)
            else:
                place = Place(node.label, setting.line)
                self.graph.assignments.append(
                    Assignment(mount + setting.key, setting.value, node, place)
                )
        for key, line in parsed.sections:
            if key[0] not in ("include", "replace"):
                self.graph.sections.setdefault(mount + key, Place(node.label, line))
        included = self._follow(includes, path, chain)
        self._replace(node, replaces, included, path, chain)
        return node

    def _replace(
        self,
        node: Node,
        replaces: list[Setting],
        included: frozenset[Node],
        path: Path,
        chain: tuple[Path, ...],
    ) -> None:
        kept: dict[Key, tuple[Place, frozenset[Node]]] = {}
        for setting in replaces:
            target = node.mount + _split(setting.key[1:])
            if len(target) == len(node.mount):
                where = str(Place(node.label, setting.line))
                fix = "write replace: {loss: [loss/grpo]}"
                self.report(Problem(where, "replace", "a list", "a map of keys to lists", fix))
                continue
            references = self._references(setting, node, target[:-1])
            nodes = self._follow(references, path, chain)
            kept[target] = (Place(node.label, setting.line), nodes)
        everything = included.union(*(nodes for _, nodes in kept.values()))
        for target, (place, nodes) in kept.items():
            self.graph.erasures.append(Erasure(target, everything - nodes, place))
        self.graph.below[node] = everything

    def _follow(
        self, references: list[_Reference], path: Path, chain: tuple[Path, ...]
    ) -> frozenset[Node]:
        """All nodes that the references lead to."""
        found: set[Node] = set()
        for reference in references:
            target = self._locate(reference, path, chain)
            if target is None:
                continue
            for length in range(len(reference.mount)):
                opened = reference.mount[: length + 1]
                self.graph.sections.setdefault(opened, reference.place)
            node = self._node(target, reference.mount, chain)
            found |= {node} | self.graph.below[node]
        return frozenset(found)

    def _references(
        self, setting: Setting, node: Node, mount: Key | None = None
    ) -> list[_Reference]:
        """The names that one list under ``include`` or ``replace`` holds."""
        place = Place(node.label, setting.line)
        if setting.value == {}:
            return []
        if not isinstance(setting.value, list) or len(setting.key) > 2:
            fix = "write include: [model/qwen3-tiny] or include: {mount.point: [stage/easy]}"
            got = f"{setting.value!r}"
            self.report(Problem(str(place), dotted(setting.key), got, "a list of names", fix))
            return []
        if mount is None:
            mount = node.mount + _split(setting.key[1:])
        found: list[_Reference] = []
        for item, line in zip(setting.value, setting.item_lines, strict=True):
            place = Place(node.label, line)
            if isinstance(item, str):
                found.append(_Reference(item, mount, place))
            else:
                fix = "name a fragment by its folder and file, as in model/qwen3-tiny"
                self.report(
                    Problem(str(place), dotted(setting.key), repr(item), "a fragment's name", fix)
                )
        return found

    def _locate(self, reference: _Reference, path: Path, chain: tuple[Path, ...]) -> Path | None:
        """The file that a name stands for, or None after reporting why there is none."""
        name = reference.name.removesuffix(".yaml")
        if name.startswith("."):
            target = path.parent / f"{name}.yaml"
        elif name.startswith("runs/"):
            target = self.library / f"{name}.yaml"
        else:
            target = self.library / "fragments" / f"{name}.yaml"
        led = " -> ".join(self.label(file) for file in chain)
        if target.resolve() in chain:
            got = f"a cycle: {led} -> {self.label(target)}"
            fix = "remove one of these includes"
            self.report(Problem(str(reference.place), "include", got, "no cycle", fix))
            return None
        if not target.is_file():
            got = f"{reference.name}, which is no file (looked for {self.label(target)})"
            if len(chain) > 1:
                got += f", reached by {led}"
            self.report(
                Problem(str(reference.place), "include", got, "a fragment", self._nearest(name))
            )
            return None
        return target

    def _nearest(self, name: str) -> str:
        folder = self.library / "fragments"
        known = [str(file.relative_to(folder))[:-5] for file in sorted(folder.rglob("*.yaml"))]
        near = nearest(name, known)
        return f"did you mean {near}?" if near else f"put the file under {self.label(folder)}"

    def _parse(self, path: Path, label: str) -> Parsed:
        resolved = path.resolve()
        if resolved not in self._parsed:
            self._parsed[resolved] = self._read(path, label)
        return self._parsed[resolved]

    def _read(self, path: Path, label: str) -> Parsed:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            got = f"a file that cannot be read: {error}"
            self.report(Problem(label, ".", got, "a spec in UTF-8", "give the path of a spec"))
            return Parsed((), ())
        return parse_yaml(text, label, self.report)


def _split(parts: Key) -> Key:
    """The parts of a mount point as written: ``("curriculum.stages.hard",)`` or ``(".",)``."""
    return tuple(part for text in parts for part in text.split(".") if part)
