"""Compares two specs, plans or runs: what changed, who set it, and whether a run may go on."""

from collections.abc import Iterator
from dataclasses import dataclass

from e3mega.metrics import Json
from e3mega.spec.describe import value_words
from e3mega.spec.fingerprint import UNCOVERED, stage_fingerprints
from e3mega.spec.merge import INHERITED
from e3mega.spec.origins import Composition, Key, dotted, flatten
from e3mega.spec.resolve import Resolved
from e3mega.spec.schema.curriculum import StageMode

_UNSHARED = (*UNCOVERED, "checkpoint")
"""Sections that no stage's outcome depends on."""


@dataclass(frozen=True, slots=True)
class Side:
    """What is compared: values by key, and where they come from if that is known.

    Example: ``spec_side(resolve_spec(find_spec("quickstart")))``.
    """

    leaves: dict[Key, Json]
    modes: dict[str, StageMode]
    """Of each stage, by name, in order."""
    fingerprints: tuple[str, ...]
    """Of each stage, in order."""
    composition: Composition | None
    """None for a plan alone, which does not know who set what."""


@dataclass(frozen=True, slots=True)
class Change:
    """One leaf that differs. ``null`` stands for a key that only the other side has.

    Example: ``Change("seed", "1", "default", "2", "--set seed=2", "needs a new run")``.
    """

    key: str
    left: str
    left_place: str
    right: str
    right_place: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Difference:
    """All changes between two sides, and the stages that both have in common.

    Example: ``difference(left, right).shared_stages == ("warmup",)``.
    """

    changes: tuple[Change, ...]
    shared_stages: tuple[str, ...]
    num_stages: int
    """Stages of the right side."""

    @property
    def conclusion(self) -> str:
        """Whether a run of the left side may continue as the right one."""
        if not self.changes:
            return "no difference"
        if len(self.shared_stages) == self.num_stages:
            return "a run may continue with these changes: no stage depends on them"
        if self.shared_stages:
            names = ", ".join(self.shared_stages)
            return f"needs a new run, which may start from the end of the shared stages: {names}"
        return "needs a new run from its first stage on"


def spec_side(resolved: Resolved) -> Side:
    """A spec as a side."""
    curriculum = resolved.options.curriculum
    return Side(
        leaves=dict(flatten(resolved.options.model_dump(mode="json"))),
        modes={name: curriculum.stages[name].mode for name in curriculum.order},
        fingerprints=stage_fingerprints(resolved.options),
        composition=resolved.composition,
    )


def difference(left: Side, right: Side) -> Difference:
    """Every leaf that differs, in the order of the schema, and what follows from it."""
    return Difference(
        changes=tuple(_changes(left, right)),
        shared_stages=_shared_stages(left, right),
        num_stages=len(right.modes),
    )


def _shared_stages(left: Side, right: Side) -> tuple[str, ...]:
    """The leading stages with equal fingerprints: the same work in both."""
    shared: list[str] = []
    pairs = zip(right.modes, left.fingerprints, right.fingerprints, strict=False)
    for name, before, after in pairs:
        if before != after:
            break
        shared.append(name)
    return tuple(shared)


def _changes(left: Side, right: Side) -> Iterator[Change]:
    before, after = left.leaves, right.leaves
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    for key in changed:
        if _is_echo(key, changed, (left, right)):
            continue
        yield Change(
            key=dotted(key),
            left=_value(left, key),
            left_place=_place(left, key),
            right=_value(right, key),
            right_place=_place(right, key),
            verdict=_verdict(key, changed, right),
        )


def _is_echo(key: Key, changed: list[Key], sides: tuple[Side, Side]) -> bool:
    """Whether a stage's leaf only repeats a change of the run's section."""
    inner = key[3:]
    if key[:2] != ("curriculum", "stages") or not inner or inner[0] not in INHERITED:
        return False
    known = [side.composition for side in sides if side.composition is not None]
    leaves = [composition.leaves.get(key) for composition in known]
    is_inherited = all(leaf is None or leaf.inherited_from for leaf in leaves)
    return is_inherited and inner in changed


def _value(side: Side, key: Key) -> str:
    return value_words(side.leaves[key]) if key in side.leaves else "not there"


def _place(side: Side, key: Key) -> str:
    if key not in side.leaves:
        return "-"
    if side.composition is None:
        return "plan"
    leaf = side.composition.origin(key)
    return str(leaf.place) if leaf is not None else "default"


def _verdict(key: Key, changed: list[Key], right: Side) -> str:
    """What one change asks of a run: the first stage whose outcome depends on it."""
    if key[0] in _UNSHARED:
        return "may continue"
    if key[0] in ("seed", "model"):
        return "needs a new run"
    touched = [
        name
        for name in right.modes
        if key[:3] == ("curriculum", "stages", name)
        or (key[0] in INHERITED and ("curriculum", "stages", name, *key) in changed)
    ]
    inner = key[3:] if key[:2] == ("curriculum", "stages") else key
    if inner[:1] == ("generation",) or inner[:2] == ("layout", "generation"):
        touched = [name for name in touched if right.modes[name] is StageMode.RL]
    elif key[0] == "curriculum" and not touched:
        return "needs a new run"
    if not touched:
        return "may continue"
    first = next(iter(right.modes))
    return "needs a new run" if touched[0] == first else f"new from stage {touched[0]} on"
