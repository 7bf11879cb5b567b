"""Composes a spec from its files and the command line into one tree that knows its origins."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from e3mega.errors import Problem
from e3mega.metrics import Json
from e3mega.spec.files import LIBRARY, GraphReader
from e3mega.spec.merge import INHERITED, merge
from e3mega.spec.origins import Composition, Key, Leaf, dotted


def compose(
    path: Path,
    report: Callable[[Problem], None],
    *,
    sets: Sequence[str] = (),
    set_files: Sequence[Path] = (),
    library: Path = LIBRARY,
) -> Composition:
    """Read, merge and interpolate; problems are reported and what they touch is left out."""
    reader = GraphReader(report, library)
    spec = reader.read_spec(path, set_files, sets)
    leaves = merge(reader.graph, report)
    raw = _tree(leaves)
    composition = Composition(spec, raw, leaves, reader.graph.sections)
    resolved = _interpolate(composition, report)
    return Composition(spec, _tree(resolved), resolved, reader.graph.sections)


def _tree(leaves: dict[Key, Leaf]) -> dict[str, Json]:
    tree: dict[str, Json] = {}
    for key, leaf in leaves.items():
        parent = tree
        for part in key[:-1]:
            parent = cast("dict[str, Json]", parent.setdefault(part, {}))
        if leaf.value != {}:
            parent[key[-1]] = leaf.value
        else:
            parent.setdefault(key[-1], {})
    _open_inherited_sections(tree)
    return tree


def _open_inherited_sections(tree: dict[str, Json]) -> None:
    """Give every stage all sections, so that those left to their defaults are there too."""
    curriculum = tree.get("curriculum")
    stages = curriculum.get("stages") if isinstance(curriculum, dict) else None
    for stage in stages.values() if isinstance(stages, dict) else ():
        if isinstance(stage, dict):
            for section in INHERITED:
                stage.setdefault(section, {})


def _interpolate(composition: Composition, report: Callable[[Problem], None]) -> dict[Key, Leaf]:
    """The leaves with every ``${...}`` replaced by what it refers to."""
    leaves = {
        key: leaf
        for key, leaf in composition.leaves.items()
        if not _refers(leaf.value) or _can_be_read(key, leaf, report)
    }
    if not any(_refers(leaf.value) for leaf in leaves.values()):
        return leaves
    config = OmegaConf.create(_tree(leaves))
    found: dict[Key, Leaf] = {}
    for key, leaf in leaves.items():
        if not _refers(leaf.value):
            found[key] = leaf
            continue
        try:
            value = _looked_up(config, key)
        except (OmegaConfBaseException, RecursionError) as error:
            report(_dangling(key, leaf, error))
        else:
            found[key] = Leaf(value, leaf.place, leaf.inherited_from)
    return found


def _refers(value: Json) -> bool:
    if isinstance(value, list):
        return any(_refers(item) for item in value)
    return isinstance(value, str) and "${" in value


def _can_be_read(key: Key, leaf: Leaf, report: Callable[[Problem], None]) -> bool:
    """Whether an interpolation is one that a spec may have; ``oc.env`` would read the machine."""
    if "${oc." in str(leaf.value):
        fix = "write the value, or refer to a key as ${section.key}"
        got = repr(leaf.value)
        report(Problem(str(leaf.place), dotted(key), got, "a reference to a key", fix))
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
