"""Rules of a stage's budget, exit, data and evaluation, one small function each."""

from collections.abc import Iterator

from e3mega.curriculum.allowance import possible_budgets
from e3mega.curriculum.exit import max_steps
from e3mega.curriculum.options import (
    CoupledBudget,
    PlateauExit,
    RampBudget,
    RecognitionExit,
    Signal,
    StepsExit,
    TargetExit,
    TokenKind,
    TokensExit,
)
from e3mega.spec.findings import Finding
from e3mega.spec.stage_view import CONTEXT, Rule, StageView, ascends
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.text import CountdownTextOptions
from e3mega.tasks.multiplication.options import MultiplicationOptions
from e3mega.tasks.sizes import max_prompt_tokens

_WITH_TRACES = CountdownOptions, CountdownTextOptions, MultiplicationOptions


def budgets_ascend(view: StageView) -> Iterator[Finding]:
    """The candidates of the coupled rule and the levels of a ramp are different and ascending."""
    budget = view.stage.budget
    is_list = isinstance(budget, CoupledBudget | RampBudget)
    numbers = budget.levels if isinstance(budget, RampBudget) else ()
    numbers = budget.candidates if isinstance(budget, CoupledBudget) else numbers
    if is_list and not ascends(numbers):
        fix = "list at least one budget, ascending, each once"
        yield Finding(view.budget_key, "budgets that ascend", fix)


def budget_fits_the_context(view: StageView) -> Iterator[Finding]:
    """Prompt and completion fit into the model's context; so does the rule's double budget."""
    is_coupled = isinstance(view.stage.budget, CoupledBudget)
    longest = view.largest_budget * (2 if is_coupled else 1)
    if longest <= view.room_tokens:
        return
    prompt = max_prompt_tokens(view.stage.task)
    twice = "twice the largest candidate" if is_coupled else "the budget"
    most = view.room_tokens // (2 if is_coupled else 1)
    need = f"{twice} and the prompt of {prompt} tokens within {{0}}"
    fix = f"use at most {most} tokens, or raise model.max_context_tokens"
    yield Finding(view.budget_key, need, fix, (CONTEXT,))


def coupled_rule_can_be_measured(view: StageView) -> Iterator[Finding]:
    """pass@k has as many samples, and the floor leaves a candidate."""
    budget = view.stage.budget
    if not isinstance(budget, CoupledBudget):
        return
    if budget.pass_k > budget.samples_per_problem:
        cites = (view.key("budget", "samples_per_problem"),)
        fix = "draw more samples, or use a smaller k"
        yield Finding(view.key("budget", "pass_k"), "at most {0}", fix, cites)
    if budget.floor_tokens is not None and budget.floor_tokens > view.largest_budget:
        cites = (view.budget_key,)
        fix = f"use {view.largest_budget} or less"
        key = view.key("budget", "floor_tokens")
        yield Finding(key, "at most the largest of {0}", fix, cites)


def steps_are_whole_rounds(view: StageView) -> Iterator[Finding]:
    """A stage ends, is measured, and changes its budget at the end of a round."""
    per_round = view.stage.rollout.steps_per_round
    cites = (view.key("rollout", "steps_per_round"),)
    leave, budget = view.stage.exit, view.stage.budget
    counts = {
        ("exit", name): getattr(leave, name)
        for name in ("steps", "max_steps", "every_steps")
        if name in type(leave).model_fields
    }
    if isinstance(budget, RampBudget):
        counts["budget", "steps_per_level"] = budget.steps_per_level
    if view.is_rl and view.stage.evaluation.every_steps is not None:
        counts["evaluation", "every_steps"] = view.stage.evaluation.every_steps
    for (section, name), steps in counts.items():
        if steps % per_round:
            fix = f"use {steps // per_round * per_round or per_round}"
            yield Finding(view.key(section, name), "a multiple of {0}", fix, cites)


def exit_can_be_measured(view: StageView) -> Iterator[Finding]:
    """What the exit rule reads exists in the stage, and is measured before the cap."""
    leave = view.stage.exit
    mode = (view.key("mode"),)
    kind = view.key("exit", "kind")
    if isinstance(leave, RecognitionExit):
        if view.is_rl:
            fix = "use kind: steps, tokens, plateau or target"
            yield Finding(kind, "no recognition for {0}", fix, mode)
        task = view.stage.task
        if isinstance(task, _WITH_TRACES) and not task.trace_has_verification:
            cites = (view.key("task", "trace_has_verification"),)
            yield Finding(kind, "traces with verdicts, against {0}", "use kind: steps", cites)
        if leave.min_steps > leave.max_steps:
            cites = (view.key("exit", "max_steps"),)
            fix = f"use {leave.max_steps} or less"
            yield Finding(view.key("exit", "min_steps"), "at most {0}", fix, cites)
    elif not view.is_rl:
        reads_reward = isinstance(leave, PlateauExit | TargetExit) and leave.of is Signal.REWARD
        generated = isinstance(leave, TokensExit) and leave.of is TokenKind.GENERATED
        if reads_reward or generated:
            fix = "use accuracy, trained tokens, or kind: steps"
            yield Finding(view.key("exit", "of"), "something that {0} has", fix, mode)


def exit_can_come_before_its_cap(view: StageView) -> Iterator[Finding]:
    """A target is read at least once, and a plateau one time more than its patience, in time."""
    leave = view.stage.exit
    if not isinstance(leave, PlateauExit | TargetExit):
        return
    needed = leave.patience + 1 if isinstance(leave, PlateauExit) else 1
    if needed * leave.every_steps > leave.max_steps:
        what = f"{needed} measurements within" if needed > 1 else "at most"
        most = leave.max_steps // needed
        fix = f"use {most} or less" if most else "raise max_steps, or lower patience"
        cites = (view.key("exit", "max_steps"),)
        yield Finding(view.key("exit", "every_steps"), f"{what} {{0}}", fix, cites)


def ramp_reaches_its_levels(view: StageView) -> Iterator[Finding]:
    """A ramp gets to its last level before the stage must end."""
    budget, leave = view.stage.budget, view.stage.exit
    if not isinstance(budget, RampBudget):
        return
    most, needed = max_steps(leave), budget.steps_per_level * (len(budget.levels) - 1) + 1
    if most < needed:
        cites = (view.key("exit", "steps" if isinstance(leave, StepsExit) else "max_steps"),)
        fix = "use fewer levels, fewer steps a level, or a longer stage"
        key = view.key("budget", "steps_per_level")
        yield Finding(key, "its last level within {0}", fix, cites)


def caps_hold_a_round(view: StageView) -> Iterator[Finding]:
    """A round is refused where it could pass a cap, so a smaller cap lets none begin."""
    stage, budgets = view.stage, possible_budgets(view.stage.budget)
    rollout, rule = stage.rollout, stage.loss.dynamic_sampling
    sequences = rollout.prompts_per_step * rollout.steps_per_round * rollout.samples_per_prompt
    trained = sequences * min(budgets, default=0)
    generated = trained * (1 + (rule.max_refills if rule is not None else 0)) * view.is_rl
    least = {"max_trained_tokens": trained, "max_generated_tokens": generated}
    for section in (("curriculum",), view.key()):
        caps = stage.caps if len(section) > 1 else view.options.curriculum.caps
        for name, tokens in least.items():
            cap: int | None = getattr(caps, name)
            if cap is not None and cap < tokens:
                need = f"at least {tokens}, what a round of stage {view.name} may take"
                fix = "raise it, or make the round smaller"
                yield Finding((*section, "caps", name), need, fix)


def data_can_come(view: StageView) -> Iterator[Finding]:
    """Bounds of pass rates leave room, and only an RL stage knows what was solved."""
    data = view.stage.data
    for name, part in data.parts.items():
        low, high = part.min_pass_rate, part.max_pass_rate
        if low is not None and high is not None and low > high:
            key = view.key("data", "parts", name, "min_pass_rate")
            cites = (view.key("data", "parts", name, "max_pass_rate"),)
            yield Finding(key, "at most {0}", "lower it", cites)
    bounds = data.admission
    if bounds is not None and bounds.min_pass_rate > bounds.max_pass_rate:
        cites = (view.key("data", "admission", "max_pass_rate"),)
        key = view.key("data", "admission", "min_pass_rate")
        yield Finding(key, "at most {0}", "lower it", cites)
    if not view.is_rl:
        for name in ("drops_solved", "admission", "parts"):
            if getattr(data, name):
                fix = "remove it, or use it in an RL stage"
                cites = (view.key("mode"),)
                yield Finding(view.key("data", name), "nothing for {0}", fix, cites)


def servers_keep_their_layout(view: StageView) -> Iterator[Finding]:
    """Servers start once: only the learner's grid may change from stage to stage."""
    if view.stage.layout.generation != view.options.layout.generation:
        cites = (("layout", "generation"),)
        fix = "set layout.generation for the whole run"
        yield Finding(view.key("layout", "generation"), "{0}, as for all stages", fix, cites)
    ours, first = view.stage.layout.learner, view.options.layout.learner
    if ours.device is not first.device:
        cites = (("layout", "learner", "device"),)
        fix = "set layout.learner.device for the whole run"
        key = view.key("layout", "learner", "device")
        yield Finding(key, "{0}, as for all stages", fix, cites)


def evaluation_fits(view: StageView) -> Iterator[Finding]:
    """Test budgets ascend and at least one fits; so does the budget of pass@k."""
    evaluation = view.stage.evaluation
    prompt = max_prompt_tokens(view.stage.task)
    most = f"use at most {view.room_tokens}, or raise model.max_context_tokens"
    need = f"at most {{0}} with the prompt of {prompt} tokens"
    if not ascends(evaluation.budgets):
        fix = "list at least one budget, ascending, each once"
        yield Finding(view.key("evaluation", "budgets"), "budgets that ascend", fix)
    elif evaluation.budgets[0] > view.room_tokens:
        yield Finding(view.key("evaluation", "budgets"), need, most, (CONTEXT,))
    if evaluation.pass_budget_tokens > view.room_tokens:
        key = view.key("evaluation", "pass_budget_tokens")
        yield Finding(key, need, most, (CONTEXT,))
    if not ascends(evaluation.pass_k):
        key = view.key("evaluation", "pass_k")
        yield Finding(key, "numbers that ascend", "list at least one, ascending")
    elif evaluation.pass_k[-1] > evaluation.pass_samples:
        cites = (view.key("evaluation", "pass_samples"),)
        fix = "draw more samples, or drop the largest k"
        yield Finding(view.key("evaluation", "pass_k"), "k of at most {0}", fix, cites)


CURRICULUM_RULES: tuple[Rule, ...] = (
    budgets_ascend,
    budget_fits_the_context,
    coupled_rule_can_be_measured,
    steps_are_whole_rounds,
    exit_can_be_measured,
    exit_can_come_before_its_cap,
    ramp_reaches_its_levels,
    caps_hold_a_round,
    data_can_come,
    servers_keep_their_layout,
    evaluation_fits,
)
