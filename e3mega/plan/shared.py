"""Which stages two plans have in common, and what keeps them from having more."""

from collections.abc import Iterator
from itertools import islice, takewhile

from pydantic import BaseModel

from e3mega.metrics import Json
from e3mega.plan.planfile import Plan, StagePlan
from e3mega.spec.schema.curriculum import StageMode

_SECTIONS = ("budget", "exit", "data", "task", "rollout", "loss", "optimizer", "evaluation")
"""Of a stage's fingerprint; the rest of it is seed, mode, model, grid and, for RL, the tier."""


def num_shared_stages(mine: Plan, theirs: Plan) -> int:
    """Leading stages whose fingerprints agree: one run's weights at their end are the other's."""
    pairs = zip(mine.stages, theirs.stages, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].fingerprint == pair[1].fingerprint, pairs))


def first_differences(mine: Plan, theirs: Plan, *, limit: int) -> list[str]:
    """What keeps the first stage that is not shared from being so: keys with both values.

    Example: ``["seed: 1 here, 2 there"]``. Empty when one of the plans has no such stage.
    """
    index = num_shared_stages(mine, theirs)
    if index >= min(len(mine.stages), len(theirs.stages)):
        return []
    ours, others = _covered(mine, index), _covered(theirs, index)
    lines = (
        f"{key}: {ours.get(key, 'not set')} here, {others.get(key, 'not set')} there"
        for key in sorted({*ours, *others})
        if ours.get(key, "not set") != others.get(key, "not set")
    )
    return list(islice(lines, limit))


def _covered(plan: Plan, index: int) -> dict[str, Json]:
    """The leaves that a stage's fingerprint covers, the stages before it left out."""
    stage: StagePlan = plan.stages[index]
    sections: dict[str, BaseModel] = {name: getattr(stage, name) for name in _SECTIONS}
    sections |= {"model": plan.model, "layout.learner": stage.learner}
    if stage.mode is StageMode.RL:
        sections |= {"generation": stage.generation, "layout.generation": plan.layout.generation}
    leaves: dict[str, Json] = {"seed": plan.seed, "mode": stage.mode.value}
    for name, options in sections.items():
        leaves |= _leaves(name, options.model_dump(mode="json"))
    return leaves


def _leaves(prefix: str, value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(f"{prefix}.{key}", inner)
    else:
        yield prefix, value
