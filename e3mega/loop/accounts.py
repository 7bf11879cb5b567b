"""The ledger while the loop runs: written after every round, held against the caps."""

import json

from e3mega.loop.jobs import Jobs
from e3mega.loop.state import LoopState
from e3mega.metrics import Json
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.ledger import Intent, Ledger, check_caps


def write_ledger(jobs: Jobs, state: LoopState, stage: StagePlan) -> None:
    """Log the run's counts and each stage's; RecordError when a sum does not hold.

    What another run spent on stages that this one shares stands apart, in no sum.
    """
    total = json.loads(state.ledger.to_json())
    by_stage = {"stages": _counts(state.ledgers)}
    if state.shared:
        by_stage["shared"] = _counts(state.shared)
    jobs.metrics.write("ledger", version=state.version, stage=stage.name, **total, **by_stage)
    for name, each in state.ledgers.items():
        each.check(is_drained=name != stage.name)


def check_intent(jobs: Jobs, state: LoopState, stage: StagePlan, intent: Intent) -> None:
    """E3Error when the work that is about to begin could pass a cap of the stage or the run."""
    # Whether a run ends at a cap must not depend on who trained its first stages.
    whole = sum(state.shared.values(), state.ledger)
    check_caps(whole, jobs.plan.caps, intent, whose="curriculum.caps")
    ledger = state.ledger_of(stage.name)
    check_caps(ledger, stage.caps, intent, whose=f"curriculum.stages.{stage.name}.caps")


def _counts(ledgers: dict[str, Ledger]) -> Json:
    return {stage: json.loads(each.to_json()) for stage, each in ledgers.items()}
