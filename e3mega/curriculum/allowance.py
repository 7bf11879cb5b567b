"""Which budgets a stage's rule may give, and which one applies at a step; pure Python."""

from e3mega.curriculum.options import Budget, CoupledBudget, FixedBudget, RampBudget


def possible_budgets(rule: Budget) -> tuple[int, ...]:
    """The budgets that a stage with this rule may train at, ascending."""
    match rule:
        case FixedBudget():
            return (rule.tokens,)
        case RampBudget():
            return rule.levels
        case CoupledBudget():
            return rule.candidates


def budget_at(rule: Budget, stage_step: int, chosen: int) -> int:
    """The budget of rollouts that the step after ``stage_step`` finished ones consumes.

    ``chosen`` is what the coupled rule decided; a ramp stays at each level for its steps.
    """
    match rule:
        case FixedBudget():
            return rule.tokens
        case RampBudget():
            return rule.levels[min(stage_step // rule.steps_per_level, len(rule.levels) - 1)]
        case CoupledBudget():
            return chosen
