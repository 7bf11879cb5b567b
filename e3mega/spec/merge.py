"""Decides for every key which file's value wins, by the precedence of the spec language.

A node is a file at one mount. It overrides all nodes that it reaches; nodes of which neither
reaches the other must agree.
"""

from collections.abc import Callable
from dataclasses import dataclass

from e3mega.errors import Problem
from e3mega.spec.fields import same_after_typing
from e3mega.spec.files import Assignment, Graph, Node
from e3mega.spec.origins import Fate, Key, Leaf, Place, dotted
from e3mega.spec.schema.curriculum import StageOptions
from e3mega.spec.schema.run import RunOptions

INHERITED = tuple(name for name in StageOptions.model_fields if name in RunOptions.model_fields)
"""Sections that a stage has from the run, with its own keys over them."""

_STAGES: Key = ("curriculum", "stages")


@dataclass(frozen=True, slots=True)
class Winner:
    """The agreeing top setters of one key; the first one's place is shown."""

    setters: tuple[Assignment, ...]

    @property
    def key(self) -> Key:
        """The key that they set."""
        return self.setters[0].key

    def leaf(self, inherited_from: Key = ()) -> Leaf:
        """The value with its place."""
        return Leaf(self.setters[0].value, self.setters[0].place, inherited_from)


Winners = dict[Key, Winner]


@dataclass(frozen=True, slots=True)
class Merged:
    """What won, and why the rest did not. Example: ``merge(graph, report).leaves``."""

    leaves: dict[Key, Leaf]
    fates: tuple[Fate, ...]


def merge(graph: Graph, report: Callable[[Problem], None]) -> Merged:
    """The leaves of the merged tree, stages with what they inherit from the run's sections.

    Conflicts are reported; one of the values is then kept so that the rest can be checked.
    """
    fates: list[Fate] = []
    stated = _drop_erased(graph, fates)
    erased = {erasure.key: f"replaced at {erasure.place}" for erasure in graph.erasures}
    erased |= {
        each.key: f"switched off by null at {each.place}" for each in stated if each.value is None
    }
    stated = _drop_other_kinds(graph, _drop_below_null(graph, stated, fates), fates)
    winners = _top_setters(graph, stated, report, fates)
    winners = _settle_overlaps(graph, winners, report, fates)
    leaves = {key: winner.leaf() for key, winner in winners.items()}
    stages = {key[2] for key in winners if key[:2] == _STAGES and len(key) > 2}
    for name in sorted(stages):
        leaves.update(_inherited(graph, winners, name, erased, fates))
    return Merged(leaves, tuple(fates))


def _fate(each: Assignment, reason: str) -> Fate:
    return Fate(each.key, each.value, each.place, reason)


def _drop_erased(graph: Graph, fates: list[Fate]) -> list[Assignment]:
    """All assignments less those under a ``replace`` that reaches them."""
    kept: list[Assignment] = []
    for each in graph.assignments:
        erasure = next(
            (
                erasure
                for erasure in graph.erasures
                if _is_within(each.key, erasure.key) and each.node in erasure.nodes
            ),
            None,
        )
        if erasure is None:
            kept.append(each)
        else:
            fates.append(
                _fate(each, f"dropped: {dotted(erasure.key)} is replaced at {erasure.place}")
            )
    return kept


def _drop_below_null(graph: Graph, stated: list[Assignment], fates: list[Fate]) -> list[Assignment]:
    """``null`` drops what the files below it set inside."""
    nulls = [each for each in stated if each.value is None]
    kept: list[Assignment] = []
    for each in stated:
        null = next(
            (
                null
                for null in nulls
                if _is_within(each.key, null.key) and graph.reaches(null.node, each.node)
            ),
            None,
        )
        if null is None:
            kept.append(each)
        else:
            fates.append(_fate(each, f"dropped: {dotted(null.key)} is null at {null.place}"))
    return kept


def _drop_other_kinds(
    graph: Graph, stated: list[Assignment], fates: list[Fate]
) -> list[Assignment]:
    """A ``kind`` stated anew drops the keys of files that state or reach the lower kind."""
    kinds = [each for each in stated if each.key[-1] == "kind"]
    dropped: dict[tuple[Key, Node], Place] = {}
    for upper in kinds:
        for lower in kinds:
            is_anew = upper.key == lower.key and upper.value != lower.value
            if not is_anew or not graph.reaches(upper.node, lower.node):
                continue
            for node in graph.below:
                knows_lower = node == lower.node or graph.reaches(node, lower.node)
                is_above = node == upper.node or graph.reaches(node, upper.node)
                if knows_lower and not is_above:
                    dropped[upper.key[:-1], node] = upper.place
    kept: list[Assignment] = []
    for each in stated:
        places = [dropped.get((each.key[:length], each.node)) for length in range(len(each.key))]
        place = next((place for place in places if place is not None), None)
        if place is None:
            kept.append(each)
        else:
            fates.append(_fate(each, f"dropped: another kind is stated at {place}"))
    return kept


def _top_setters(
    graph: Graph,
    stated: list[Assignment],
    report: Callable[[Problem], None],
    fates: list[Fate],
) -> Winners:
    """For each key the setters that no other setter of it reaches, which must agree."""
    by_key: dict[Key, list[Assignment]] = {}
    for each in stated:
        by_key.setdefault(each.key, []).append(each)
    winners: Winners = {}
    for key, setters in by_key.items():
        top: list[Assignment] = []
        for each in setters:
            above = [other for other in setters if graph.reaches(other.node, each.node)]
            if above:
                fates.append(_fate(each, f"overridden: {above[0].place.file} lies above it"))
            else:
                top.append(each)
        top.sort(key=lambda each: str(each.place))
        for other in top[1:]:
            if not same_after_typing(key, top[0].value, other.value):
                report(_conflict(key, top[0], other))
            elif other.place != top[0].place:
                fates.append(_fate(other, f"says the same as {top[0].place}"))
        winners[key] = Winner(tuple(top))
    return winners


def _settle_overlaps(
    graph: Graph, winners: Winners, report: Callable[[Problem], None], fates: list[Fate]
) -> Winners:
    """Of a value at a key and values inside that key, the ones from above stay."""
    dropped: set[Key] = set()
    for inner in sorted(winners):
        for length in range(1, len(inner)):
            outer = inner[:length]
            if outer not in winners or outer in dropped or inner in dropped:
                continue
            above, below = winners[inner], winners[outer]
            if below.setters[0].value == {} or _overrides(graph, above, below):
                dropped.add(outer)
            elif _overrides(graph, below, above):
                dropped.add(inner)
                reason = f"dropped: {dotted(outer)} is set as a whole at {below.setters[0].place}"
                fates += [_fate(each, reason) for each in above.setters]
            else:
                report(_conflict(inner, above.setters[0], below.setters[0]))
                dropped.add(outer)
    return {key: winner for key, winner in winners.items() if key not in dropped}


def _overrides(graph: Graph, upper: Winner, lower: Winner) -> bool:
    return any(
        all(graph.reaches(each.node, other.node) for other in lower.setters)
        for each in upper.setters
    )


def _inherited(
    graph: Graph, winners: Winners, stage: str, erased: dict[Key, str], fates: list[Fate]
) -> dict[Key, Leaf]:
    """The leaves that a stage has from the run's sections: those it neither states nor erases."""
    home: Key = (*_STAGES, stage)
    found: dict[Key, Leaf] = {}
    for section in INHERITED:
        own = {
            key[len(home) :]: each
            for key, each in winners.items()
            if _is_within(key, home) and each.setters[0].value != {}
        }
        run = {key: each for key, each in winners.items() if key[0] == section}
        for key, winner in run.items():
            reason = _why_not_inherited(graph, home, key, own, run, erased)
            if reason:
                leaf = winner.leaf()
                fates.append(Fate(home + key, leaf.value, leaf.place, reason))
            else:
                found[home + key] = winner.leaf(inherited_from=key)
    return found


def _why_not_inherited(
    graph: Graph, home: Key, key: Key, own: Winners, run: Winners, erased: dict[Key, str]
) -> str:
    """Why a stage does not have a key of the run's section; empty if it has."""
    if any(_is_within(key, mine) or _is_within(mine, key) for mine in own):
        return f"not inherited from {dotted(key)}: the stage has a value of its own"
    for each, how in erased.items():
        if _is_within(home + key, each):
            return f"not inherited from {dotted(key)}: {dotted(each)} is {how}"
    kind = _changed_kind(graph, key, own, run)
    return f"not inherited from {dotted(key)}: the stage states another {kind}" if kind else ""


def _changed_kind(graph: Graph, key: Key, own: Winners, run: Winners) -> str:
    """The ``kind`` that a stage has changed and that a run's key belongs to; empty if none."""
    for length in range(1, len(key)):
        kind = (*key[:length], "kind")
        if kind not in own or kind not in run:
            continue
        if own[kind].setters[0].value == run[kind].setters[0].value:
            continue
        staters = [each.node for each in run[kind].setters]
        if any(
            each.node == stater or graph.reaches(each.node, stater)
            for each in run[key].setters
            for stater in staters
        ):
            return dotted(kind)
    return ""


def _conflict(key: Key, left: Assignment, right: Assignment) -> Problem:
    """Two files of which neither reaches the other, with different values."""
    got = (
        f"{_shown(left)} ({left.place}) and {_shown(right)} ({right.place}), "
        "of which neither file includes the other"
    )
    fix = f"set {dotted(key)} in a file that includes both, or drop one of the two"
    return Problem(str(left.place), dotted(key), got, "one value", fix)


def _shown(each: Assignment) -> str:
    return "null" if each.value is None else repr(each.value)


def _is_within(key: Key, prefix: Key) -> bool:
    return key[: len(prefix)] == prefix
