"""Rules that tie several keys of one stage together, one small function each."""

from collections.abc import Iterator

from e3mega.curriculum.exit import max_steps
from e3mega.curriculum.options import CoupledBudget, StepsExit
from e3mega.spec.curriculum_rules import CURRICULUM_RULES
from e3mega.spec.findings import Finding
from e3mega.spec.loss_rules import LOSS_RULES
from e3mega.spec.origins import Key
from e3mega.spec.schema.optimizer import LearningRateSchedule
from e3mega.spec.schema.run import RunOptions
from e3mega.spec.stage_view import Rule, StageView
from e3mega.tasks.sizes import (
    max_prompt_tokens,
    max_trace_tokens,
    num_held_out_problems,
    vocabulary_size,
)


def stage_findings(options: RunOptions) -> Iterator[Finding]:
    """Every rule that a stage breaks."""
    for name, stage in options.curriculum.stages.items():
        for rule in (*_RULES, *CURRICULUM_RULES):
            yield from rule(StageView(options, name, stage))


def bin_holds_the_longest_sequence(view: StageView) -> Iterator[Finding]:
    """A packed bin holds the longest prompt with the largest budget."""
    longest = max_prompt_tokens(view.stage.task) + view.largest_budget
    if view.stage.rollout.packed_tokens < longest:
        need = f"at least the longest sequence, {longest} tokens, for {{0}}"
        fix = f"use {longest} or more"
        yield Finding(view.key("rollout", "packed_tokens"), need, fix, (view.budget_key,))


def trace_fits_the_budget(view: StageView) -> Iterator[Finding]:
    """A supervised trace is never longer than the stage's budget."""
    task = view.stage.task
    longest = max_trace_tokens(task) - max_prompt_tokens(task)
    if not view.is_rl and view.largest_budget < longest:
        need = f"at least the longest trace, {longest} tokens, for {{0}}"
        fix = f"use {longest} or more, or fewer attempts"
        cites = (view.key("task", "max_trace_attempts"),)
        yield Finding(view.budget_key, need, fix, cites)


def supervised_stage_is_supervised(view: StageView) -> Iterator[Finding]:
    """A supervised stage takes its budget from no measurement and has one trace a prompt."""
    if view.is_rl:
        return
    stage, mode = view.stage, (view.key("mode"),)
    if stage.rollout.samples_per_prompt != 1:
        key = view.key("rollout", "samples_per_prompt")
        yield Finding(key, "1 for {0}, one trace a prompt", "set it to 1 in the stage", mode)
    if isinstance(stage.budget, CoupledBudget):
        fix = "use a fixed budget"
        yield Finding(view.key("budget", "kind"), "fixed for {0}, which has no J", fix, mode)


def task_has_the_problems(view: StageView) -> Iterator[Finding]:
    """There are as many held-out problems as the evaluation asks for."""
    available = num_held_out_problems(view.stage.task)
    for name in ("num_problems", "pass_num_problems"):
        if available is not None and getattr(view.stage.evaluation, name) > available:
            need = f"at most the task's {available} held-out problems"
            fix = f"use {available} or less, or a task with more problems"
            yield Finding(view.key("evaluation", name), need, fix)


def vocabulary_holds_the_task(view: StageView) -> Iterator[Finding]:
    """The embedding has a row for every word of the task's own tokenizer."""
    words = vocabulary_size(view.stage.task)
    is_own = view.options.model.hf_path is None or view.stage.task.kind == "countdown"
    if is_own and view.options.model.vocab_size < words:
        need = f"at least the task's {words} words"
        yield Finding(("model", "vocab_size"), need, f"use {-(-words // 128) * 128}")


def schedule_uses_its_values(view: StageView) -> Iterator[Finding]:
    """The learning rate has room to rise and to fall, and its floor has an effect."""
    optimizer, leave = view.stage.optimizer, view.stage.exit
    cites = (view.key("optimizer", "learning_rate"),)
    floor = view.key("optimizer", "min_learning_rate")
    if optimizer.min_learning_rate > optimizer.learning_rate:
        yield Finding(floor, "at most {0}", "lower it", cites)
    if optimizer.schedule is LearningRateSchedule.CONSTANT and optimizer.min_learning_rate:
        cites = (view.key("optimizer", "schedule"),)
        yield Finding(floor, "0 for {0}, which never falls", "use cosine or wsd", cites)
    most = max_steps(leave)
    limit = view.key("exit", "steps" if isinstance(leave, StepsExit) else "max_steps")
    if optimizer.warmup_steps > most:
        fix = f"use {most} or less"
        cites = (limit,)
        yield Finding(view.key("optimizer", "warmup_steps"), "at most {0}", fix, cites)
    yield from _decay(view, most, limit)
    for beta in ("beta1", "beta2"):
        if getattr(optimizer, beta) >= 1:
            yield Finding(view.key("optimizer", beta), "less than 1", "use 0.9 or 0.95")


def _decay(view: StageView, most: int, limit: Key) -> Iterator[Finding]:
    """A wsd schedule has steps to fall over, behind its warm-up; the others take none."""
    optimizer, key = view.stage.optimizer, view.key("optimizer", "decay_steps")
    schedule = (view.key("optimizer", "schedule"),)
    if optimizer.schedule is not LearningRateSchedule.WSD:
        if optimizer.decay_steps:
            yield Finding(key, "0 for {0}", "use schedule: wsd", schedule)
    elif not optimizer.decay_steps:
        yield Finding(key, "at least 1 for {0}", "say over how many steps it falls", schedule)
    elif optimizer.warmup_steps + optimizer.decay_steps > most:
        room = most - optimizer.warmup_steps
        cites = (limit, view.key("optimizer", "warmup_steps"))
        yield Finding(key, "within {0} behind {1}", f"use {max(room, 0)} or less", cites)


_RULES: tuple[Rule, ...] = (
    bin_holds_the_longest_sequence,
    trace_fits_the_budget,
    supervised_stage_is_supervised,
    *LOSS_RULES,
    task_has_the_problems,
    vocabulary_holds_the_task,
    schedule_uses_its_values,
)
