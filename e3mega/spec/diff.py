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
    """All changes between two specs, and the stages that both have in common.

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


def difference(left: Resolved, right: Resolved) -> Difference:
    """Every leaf that differs, in the order of the schema, and what follows from it."""
    return Difference(
        changes=tuple(_changes(left, right)),
        shared_stages=_shared_stages(left, right),
        num_stages=len(right.options.curriculum.order),
    )


def _shared_stages(left: Resolved, right: Resolved) -> tuple[str, ...]:
    """The leading stages with equal fingerprints: the same work in both."""
    prints = zip(
        right.options.curriculum.order,
        stage_fingerprints(left.options),
        stage_fingerprints(right.options),
        strict=False,
    )
    shared: list[str] = []
    for name, before, after in prints:
        if before != after:
            break
        shared.append(name)
    return tuple(shared)


def _changes(left: Resolved, right: Resolved) -> Iterator[Change]:
    before = dict(flatten(left.options.model_dump(mode="json")))
    after = dict(flatten(right.options.model_dump(mode="json")))
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    for key in changed:
        if _is_echo(key, changed, (left.composition, right.composition)):
            continue
        yield Change(
            key=dotted(key),
            left=_value(before, key),
            left_place=_place(left.composition, before, key),
            right=_value(after, key),
            right_place=_place(right.composition, after, key),
            verdict=_verdict(key, changed, right),
        )


def _is_echo(key: Key, changed: list[Key], sides: tuple[Composition, Composition]) -> bool:
    """Whether a stage's leaf only repeats a change of the run's section."""
    inner = key[3:]
    if key[:2] != ("curriculum", "stages") or not inner or inner[0] not in INHERITED:
        return False
    leaves = [side.leaves.get(key) for side in sides]
    is_inherited = all(leaf is None or leaf.inherited_from for leaf in leaves)
    return is_inherited and inner in changed


def _value(leaves: dict[Key, Json], key: Key) -> str:
    return value_words(leaves[key]) if key in leaves else "not there"


def _place(composition: Composition, leaves: dict[Key, Json], key: Key) -> str:
    if key not in leaves:
        return "-"
    leaf = composition.origin(key)
    return str(leaf.place) if leaf is not None else "default"


def _verdict(key: Key, changed: list[Key], right: Resolved) -> str:
    """What one change asks of a run: the first stage whose outcome depends on it."""
    if key[0] in _UNSHARED:
        return "may continue"
    order = right.options.curriculum.order
    if key[0] in ("seed", "model"):
        return "needs a new run"
    touched = [
        name
        for name in order
        if key[:3] == ("curriculum", "stages", name)
        or (key[0] in INHERITED and ("curriculum", "stages", name, *key) in changed)
    ]
    if key[0] == "generation" or key[:2] == ("layout", "generation"):
        stages = right.options.curriculum.stages
        touched = [name for name in touched if stages[name].mode is StageMode.RL]
    if key[0] == "curriculum" and not touched:
        return "needs a new run"
    if not touched:
        return "may continue"
    return "needs a new run" if touched[0] == order[0] else f"new from stage {touched[0]} on"
