"""Says what a person should know of a plan that is right but may not be what was meant."""

import math
from collections.abc import Iterator

from e3mega.plan.estimates import BudgetEstimate, Estimates
from e3mega.plan.planfile import StagePlan
from e3mega.plan.stages import evaluation_budgets
from e3mega.spec.schema.run import RunOptions


def warnings_of(
    options: RunOptions, stages: tuple[StagePlan, ...], expected: Estimates
) -> tuple[str, ...]:
    """All warnings, in the order of the stages; each says what to do about it."""
    return (*_cut_budgets(options), *_lags_that_do_not_fit(stages, expected.budgets))


def _cut_budgets(options: RunOptions) -> Iterator[str]:
    context = options.model.max_context_tokens
    for name in options.curriculum.order:
        stage = options.curriculum.stages[name]
        kept = evaluation_budgets(options, stage)
        cut = [budget for budget in stage.evaluation.budgets if budget not in kept]
        if cut:
            yield (
                f"stage {name}: the evaluation budgets {cut} do not fit into the model's context "
                f"of {context} tokens and are left out; remove them or raise "
                "model.max_context_tokens"
            )


def _lags_that_do_not_fit(
    stages: tuple[StagePlan, ...], expected: tuple[BudgetEstimate, ...]
) -> Iterator[str]:
    by_name = {stage.name: stage for stage in stages}
    for each in expected:
        max_lag = by_name[each.stage].rollout.max_lag
        if max_lag > math.ceil(each.capacity_lag):
            yield (
                f"stage {each.stage} at {each.budget_tokens} tokens: the tier holds at most "
                f"{each.capacity_lag:.1f} further rounds in flight, so rollout.max_lag = {max_lag} "
                "is never reached; lower it, or use more replicas"
            )
