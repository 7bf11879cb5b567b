"""Tables of a plan's stages: what each does, takes and costs at every budget it may choose."""

from collections.abc import Iterator

from rich.table import Table

from e3mega.curriculum.options import StepsExit
from e3mega.plan.estimates import BudgetEstimate
from e3mega.plan.planfile import BudgetPlan, Plan, StagePlan
from e3mega.plan.sizes_text import count_text, flops_text, seconds_text
from e3mega.plan.tables import table
from e3mega.spec.schema.curriculum import StageMode


def stage_tables(plan: Plan) -> tuple[Table, ...]:
    """What the stages are, what a step consumes, how long it takes, how stale it is."""
    return (_stages(plan), _sizes(plan), _times(plan), *_lags(plan))


def _stages(plan: Plan) -> Table:
    found = table(
        "stages",
        *("stage", "mode", "budget", "exit", "steps ", "groups ", "round ", "lag "),
    )
    for stage in plan.stages:
        rollout = stage.rollout
        found.add_row(
            stage.name,
            stage.mode.value,
            " or ".join(str(budget.tokens) for budget in stage.budgets),
            stage.exit.kind,
            f"<= {stage.max_steps}"
            if not isinstance(stage.exit, StepsExit)
            else str(stage.max_steps),
            f"{rollout.prompts_per_step} x {rollout.samples_per_prompt}",
            str(rollout.steps_per_round),
            str(rollout.max_lag) if stage.mode is StageMode.RL else "-",
        )
    return found


def _variants(plan: Plan) -> Iterator[tuple[StagePlan, BudgetPlan, BudgetEstimate]]:
    """Every stage at every budget that it may take, with what is expected there."""
    pairs = [(stage, budget) for stage in plan.stages for budget in stage.budgets]
    for (stage, budget), expected in zip(pairs, plan.estimates.budgets, strict=True):
        yield stage, budget, expected


def _sizes(plan: Plan) -> Table:
    """What a step consumes; a column of the overlong buffer where a loss has one."""
    share = plan.estimates.completion_frac
    has_buffer = any(b.overlong_buffer_tokens for stage in plan.stages for b in stage.budgets)
    found = table(
        f"one optimizer step; completions of {share:.0%} of the budget on average",
        *("stage", "budget ", *(("buffer ",) if has_buffer else ()), "longest ", "bin "),
        *("sequences ", "tokens ", "bins/rank ", "FLOP "),
    )
    for stage, budget, expected in _variants(plan):
        found.add_row(
            stage.name,
            str(budget.tokens),
            *((f"{budget.overlong_buffer_tokens:.0f}",) if has_buffer else ()),
            str(budget.max_sequence_tokens),
            str(budget.packed_tokens),
            str(stage.rollout.prompts_per_step * stage.rollout.samples_per_prompt),
            count_text(expected.step_tokens),
            str(expected.bins_per_rank),
            flops_text(expected.step_flops).strip(),
        )
    return found


def _times(plan: Plan) -> Table:
    found = table(
        "times: a round generates, a step learns, a round syncs",
        *("stage", "budget ", "generates ", "learns ", "syncs ", "a step ", "evaluates ", "stage "),
    )
    for stage, budget, expected in _variants(plan):
        is_rl = stage.mode is StageMode.RL
        found.add_row(
            stage.name,
            str(budget.tokens),
            seconds_text(expected.generation_s) if is_rl else "-",
            seconds_text(expected.learning_s),
            seconds_text(expected.sync_s) if is_rl else "-",
            seconds_text(expected.step_s),
            seconds_text(expected.measuring_s) if is_rl else "-",
            seconds_text(expected.total_s),
        )
    return found


def _lags(plan: Plan) -> Iterator[Table]:
    """How busy the jobs are and how stale the rollouts; a table only of stages that generate."""
    found = table(
        "busy and stale",
        *("stage", "budget ", "learner ", "tier ", "slots ", "at once ", "max lag ", "mean lag "),
        "lag that fits ",
    )
    for stage, budget, expected in _variants(plan):
        if stage.mode is StageMode.RL:
            found.add_row(
                stage.name,
                str(budget.tokens),
                f"{expected.learner_busy_frac:.0%}",
                f"{expected.tier_busy_frac:.0%}",
                f"{expected.slot_busy_frac:.0%}",
                str(expected.concurrent_sequences),
                str(stage.rollout.max_lag),
                f"{expected.mean_lag:.1f}",
                f"{expected.capacity_lag:.1f}",
            )
    if found.row_count:
        yield found
