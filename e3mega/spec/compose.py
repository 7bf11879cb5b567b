"""Composes a spec from its files and the command line into one tree that knows its origins."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from e3mega.errors import Problem
from e3mega.metrics import Json
from e3mega.spec.files import LIBRARY, GraphReader
from e3mega.spec.merge import INHERITED, merge
from e3mega.spec.origins import Composition, Key, Leaf, refers


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
    merged = merge(reader.graph, report)
    leaves = merged.leaves
    if any(refers(leaf.value) for leaf in leaves.values()):
        # OmegaConf takes longer to import than all else of a plan; most specs need none of it.
        from e3mega.spec.interpolate import interpolate

        leaves = interpolate(leaves, tree_of, report)
    return Composition(spec, tree_of(leaves), leaves, reader.graph.sections, merged.fates)


def tree_of(leaves: dict[Key, Leaf]) -> dict[str, Json]:
    """The leaves as a tree, in which every stage has all sections that it may inherit."""
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
