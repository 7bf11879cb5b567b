"""A plan as one side of a difference: the values of the spec that it was compiled from."""

from pydantic import BaseModel

from e3mega.metrics import Json
from e3mega.plan.compile import compile_plan
from e3mega.plan.planfile import Plan
from e3mega.spec.diff import Side
from e3mega.spec.origins import Composition, flatten
from e3mega.spec.resolve import Resolved

_SECTIONS = ("model", "layout", "checkpoint", "logging", "cluster")
_STAGE_SECTIONS = (
    *("budget", "exit", "data", "caps", "task", "rollout", "loss", "generation", "optimizer"),
    "evaluation",
)


def plan_side(plan: Plan, composition: Composition | None = None) -> Side:
    """A plan as a side. It knows the sections of its stages, not those of the run behind them."""
    stages: dict[str, Json] = {}
    for stage in plan.stages:
        sections = {name: _dumped(getattr(stage, name)) for name in _STAGE_SECTIONS}
        layout = plan.layout.model_copy(update={"learner": stage.learner})
        stages[stage.name] = {**sections, "layout": _dumped(layout), "mode": stage.mode.value}
    tree: dict[str, Json] = {name: _dumped(getattr(plan, name)) for name in _SECTIONS}
    order: list[Json] = [stage.name for stage in plan.stages]
    tree["curriculum"] = {"order": order, "stages": stages, "caps": _dumped(plan.caps)}
    tree |= {"name": plan.name, "seed": plan.seed}
    return Side(
        leaves=dict(flatten(tree)),
        modes={stage.name: stage.mode for stage in plan.stages},
        fingerprints=tuple(stage.fingerprint for stage in plan.stages),
        composition=composition,
    )


def planned_side(resolved: Resolved) -> Side:
    """A spec as the plan of it, to be held against a plan; it knows who set what."""
    return plan_side(compile_plan(resolved.options), resolved.composition)


def _dumped(options: BaseModel) -> Json:
    return options.model_dump(mode="json")
