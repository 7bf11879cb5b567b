"""Says what a person should know of a plan that is right but may not be what was meant."""

from collections.abc import Iterator

from e3mega.plan.stages import evaluation_budgets
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.run import RunOptions


def warnings_of(options: RunOptions) -> tuple[str, ...]:
    """All warnings, in the order of the stages; each says what to do about it."""
    return (*_cut_budgets(options), *_random_start(options))


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


def _random_start(options: RunOptions) -> Iterator[str]:
    first = options.curriculum.stages[options.curriculum.order[0]]
    if options.model.hf_path is None and first.mode is StageMode.RL:
        yield (
            f"stage {options.curriculum.order[0]} samples from random weights, which earn no "
            "reward; start with a supervised stage or set model.hf_path"
        )
