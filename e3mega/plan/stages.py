"""Derives every number of a stage that follows from its token budget."""

from itertools import accumulate, pairwise

from e3mega.curriculum.allowance import possible_budgets
from e3mega.curriculum.exit import max_steps
from e3mega.curriculum.options import CoupledBudget
from e3mega.objective.truncation import SoftPenalty
from e3mega.plan.planfile import BudgetPlan, StagePlan
from e3mega.spec.fingerprint import stage_fingerprints
from e3mega.spec.schema.curriculum import StageOptions
from e3mega.spec.schema.run import RunOptions
from e3mega.tasks.sizes import max_prompt_tokens


def longest_completion(stage: StageOptions) -> int:
    """Tokens of the longest completion that training or the budget rule ask for.

    The coupled rule measures at twice its largest candidate.
    """
    largest = possible_budgets(stage.budget)[-1]
    return 2 * largest if isinstance(stage.budget, CoupledBudget) else largest


def evaluation_budgets(options: RunOptions, stage: StageOptions) -> tuple[int, ...]:
    """The test budgets that fit into the model's context behind the longest prompt."""
    room = options.model.max_context_tokens - max_prompt_tokens(stage.task)
    return tuple(budget for budget in stage.evaluation.budgets if budget <= room)


def compile_stages(options: RunOptions) -> tuple[StagePlan, ...]:
    """The stages in order, each with a variant for every budget that it may take."""
    prints, segments = stage_fingerprints(options), learner_segments(options)
    return tuple(
        _compile_stage(
            options, name, index=index, fingerprint=prints[index], segment=segments[index]
        )
        for index, name in enumerate(options.curriculum.order)
    )


def learner_segments(options: RunOptions) -> tuple[int, ...]:
    """Segment of each stage in order: 0, and one more wherever the learner's grid changes."""
    layouts = [options.curriculum.stages[name].layout for name in options.curriculum.order]
    changes = [after.learner != before.learner for before, after in pairwise(layouts)]
    return tuple(accumulate((0, *changes)))


def _compile_stage(
    options: RunOptions, name: str, *, index: int, fingerprint: str, segment: int
) -> StagePlan:
    stage = options.curriculum.stages[name]
    budgets = evaluation_budgets(options, stage)
    return StagePlan(
        name=name,
        index=index,
        fingerprint=fingerprint,
        mode=stage.mode,
        budget=stage.budget,
        budgets=tuple(_budget_plan(stage, tokens) for tokens in possible_budgets(stage.budget)),
        exit=stage.exit,
        max_steps=max_steps(stage.exit),
        data=stage.data,
        caps=stage.caps,
        learner=stage.layout.learner,
        segment=segment,
        task=stage.task,
        rollout=stage.rollout,
        loss=stage.loss,
        generation=stage.generation,
        optimizer=stage.optimizer,
        evaluation=stage.evaluation.model_copy(update={"budgets": budgets}),
    )


def _budget_plan(stage: StageOptions, tokens: int) -> BudgetPlan:
    longest = max_prompt_tokens(stage.task) + tokens
    packed = stage.rollout.packed_tokens
    return BudgetPlan(
        tokens=tokens,
        max_sequence_tokens=longest,
        packed_tokens=packed,
        sequences_per_bin=packed // longest,
        overlong_buffer_tokens=_overlong_buffer(stage, tokens),
    )


def _overlong_buffer(stage: StageOptions, budget_tokens: int) -> float:
    """``buffer_frac`` of the budget where the loss has a soft penalty."""
    rule = stage.loss.sign.truncated
    return rule.buffer_frac * budget_tokens if isinstance(rule, SoftPenalty) else 0.0
