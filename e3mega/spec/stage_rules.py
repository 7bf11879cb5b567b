"""Rules that tie several keys of one stage together, one small function each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from e3mega.curriculum.options import CoupledBudget, RecognitionExit
from e3mega.objective.options import Advantage, Correction, Ratio
from e3mega.spec.findings import Finding
from e3mega.spec.origins import Key
from e3mega.spec.schema.curriculum import StageMode, StageOptions
from e3mega.spec.schema.optimizer import LearningRateSchedule
from e3mega.spec.schema.run import RunOptions
from e3mega.tasks.sizes import (
    max_prompt_tokens,
    max_trace_tokens,
    num_held_out_problems,
    vocabulary_size,
)

_CONTEXT: Key = ("model", "max_context_tokens")


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage with what its rules need of the run."""

    options: RunOptions
    name: str
    stage: StageOptions

    def key(self, *parts: str) -> Key:
        """The key of a value of this stage."""
        return ("curriculum", "stages", self.name, *parts)

    @property
    def is_rl(self) -> bool:
        """Whether the generation tier makes the completions."""
        return self.stage.mode is StageMode.RL

    @property
    def room_tokens(self) -> int:
        """Tokens of the model's context behind the longest prompt."""
        return self.options.model.max_context_tokens - max_prompt_tokens(self.stage.task)

    @property
    def budget_key(self) -> Key:
        """The key that holds the budget or the candidates."""
        is_coupled = isinstance(self.stage.budget, CoupledBudget)
        return self.key("budget", "candidates" if is_coupled else "tokens")

    @property
    def largest_budget(self) -> int:
        """The largest budget that the stage may train at; 0 if it has none."""
        budget = self.stage.budget
        if isinstance(budget, CoupledBudget):
            return max(budget.candidates, default=0)
        return budget.tokens


Rule = Callable[[StageView], Iterator[Finding]]


def stage_findings(options: RunOptions) -> Iterator[Finding]:
    """Every rule that a stage breaks."""
    for name, stage in options.curriculum.stages.items():
        for rule in _RULES:
            yield from rule(StageView(options, name, stage))


def candidates_ascend(view: StageView) -> Iterator[Finding]:
    """The candidates of the coupled rule are different and ascending."""
    budget = view.stage.budget
    if isinstance(budget, CoupledBudget) and not _ascends(budget.candidates):
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
    yield Finding(view.budget_key, need, fix, (_CONTEXT,))


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
    """A supervised stage takes its loss and budget from no reward."""
    if view.is_rl:
        return
    stage, mode = view.stage, (view.key("mode"),)
    if stage.loss.advantage is not Advantage.CONSTANT:
        fix = "give the stage replace: {loss: [loss/sft]}"
        yield Finding(view.key("loss", "advantage"), "constant for {0}", fix, mode)
    if stage.loss.ratio is not Ratio.NONE:
        fix = "give the stage replace: {loss: [loss/sft]}"
        yield Finding(view.key("loss", "ratio"), "none for {0}", fix, mode)
    if stage.rollout.samples_per_prompt != 1:
        key = view.key("rollout", "samples_per_prompt")
        yield Finding(key, "1 for {0}, one trace a prompt", "set it to 1 in the stage", mode)
    if isinstance(stage.budget, CoupledBudget):
        fix = "use a fixed budget"
        yield Finding(view.key("budget", "kind"), "fixed for {0}, which has no J", fix, mode)


def rl_stage_compares_samples(view: StageView) -> Iterator[Finding]:
    """An RL stage has groups to compare and ends after a number of steps."""
    if not view.is_rl:
        return
    stage, mode = view.stage, (view.key("mode"),)
    if stage.loss.advantage is Advantage.CONSTANT:
        fix = "use group_mean or group_mean_std"
        yield Finding(
            view.key("loss", "advantage"), "a comparison within groups for {0}", fix, mode
        )
    elif stage.rollout.samples_per_prompt < 2:
        key = view.key("rollout", "samples_per_prompt")
        yield Finding(key, "at least 2, to compare within groups", "use 8", mode)
    if isinstance(stage.exit, RecognitionExit):
        fix = "use kind: steps"
        yield Finding(view.key("exit", "kind"), "steps for {0}", fix, mode)


def staleness_is_corrected(view: StageView) -> Iterator[Finding]:
    """Rollouts of an older version need an off-policy correction."""
    is_stale = view.is_rl and view.stage.rollout.max_lag > 0
    if is_stale and view.stage.loss.correction is Correction.NONE:
        fix = "set loss.correction: truncated_token, or rollout.max_lag: 0"
        cites = (view.key("rollout", "max_lag"),)
        yield Finding(view.key("loss", "correction"), "a correction for {0}", fix, cites)


def clips_are_in_range(view: StageView) -> Iterator[Finding]:
    """Clips leave the ratio 1 inside; without a ratio there is nothing to clip."""
    loss = view.stage.loss
    if loss.clip_low >= 1:
        yield Finding(view.key("loss", "clip_low"), "less than 1", "use 0.2")
    if loss.dual_clip is not None and loss.ratio is Ratio.NONE:
        cites = (view.key("loss", "ratio"),)
        yield Finding(view.key("loss", "dual_clip"), "null for {0}", "set it to null", cites)
    elif loss.dual_clip is not None and loss.dual_clip <= 1 + loss.clip_high:
        cites = (view.key("loss", "clip_high"),)
        yield Finding(view.key("loss", "dual_clip"), "more than 1 + {0}", "use 3.0", cites)


def steps_are_whole_rounds(view: StageView) -> Iterator[Finding]:
    """A stage ends, and recognition is measured, at the end of a round."""
    per_round = view.stage.rollout.steps_per_round
    cites = (view.key("rollout", "steps_per_round"),)
    names = ("max_steps", "every_steps")
    for name in names if isinstance(view.stage.exit, RecognitionExit) else ("steps",):
        steps = getattr(view.stage.exit, name)
        if steps % per_round:
            fix = f"use {steps // per_round * per_round or per_round}"
            yield Finding(view.key("exit", name), "a multiple of {0}", fix, cites)


def exit_can_be_measured(view: StageView) -> Iterator[Finding]:
    """Recognition is measured at least once before the cap."""
    leave = view.stage.exit
    if isinstance(leave, RecognitionExit) and leave.min_steps > leave.max_steps:
        cites = (view.key("exit", "max_steps"),)
        fix = f"use {leave.max_steps} or less"
        yield Finding(view.key("exit", "min_steps"), "at most {0}", fix, cites)


def evaluation_fits(view: StageView) -> Iterator[Finding]:
    """Test budgets ascend and at least one fits; so does the budget of pass@k."""
    evaluation = view.stage.evaluation
    prompt = max_prompt_tokens(view.stage.task)
    most = f"use at most {view.room_tokens}, or raise model.max_context_tokens"
    need = f"at most {{0}} with the prompt of {prompt} tokens"
    if not _ascends(evaluation.budgets):
        fix = "list at least one budget, ascending, each once"
        yield Finding(view.key("evaluation", "budgets"), "budgets that ascend", fix)
    elif evaluation.budgets[0] > view.room_tokens:
        yield Finding(view.key("evaluation", "budgets"), need, most, (_CONTEXT,))
    if evaluation.pass_budget_tokens > view.room_tokens:
        key = view.key("evaluation", "pass_budget_tokens")
        yield Finding(key, need, most, (_CONTEXT,))
    if not _ascends(evaluation.pass_k):
        key = view.key("evaluation", "pass_k")
        yield Finding(key, "numbers that ascend", "list at least one, ascending")
    elif evaluation.pass_k[-1] > evaluation.pass_samples:
        cites = (view.key("evaluation", "pass_samples"),)
        fix = "draw more samples, or drop the largest k"
        yield Finding(view.key("evaluation", "pass_k"), "k of at most {0}", fix, cites)


def task_has_the_problems(view: StageView) -> Iterator[Finding]:
    """There are as many held-out problems as the evaluation asks for."""
    available = num_held_out_problems(view.stage.task)
    for name in ("num_problems", "pass_num_problems"):
        if getattr(view.stage.evaluation, name) > available:
            need = f"at most the task's {available} held-out problems"
            fix = f"use {available} or less, or a task with more problems"
            yield Finding(view.key("evaluation", name), need, fix)


def vocabulary_holds_the_task(view: StageView) -> Iterator[Finding]:
    """The embedding has a row for every word of the task."""
    words = vocabulary_size(view.stage.task)
    if view.options.model.vocab_size < words:
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
    name = "max_steps" if isinstance(leave, RecognitionExit) else "steps"
    if optimizer.warmup_steps > getattr(leave, name):
        cites = (view.key("exit", name),)
        fix = f"use {getattr(leave, name)} or less"
        yield Finding(view.key("optimizer", "warmup_steps"), "at most {0}", fix, cites)
    yield from _decay(view, getattr(leave, name), view.key("exit", name))
    for beta in ("beta1", "beta2"):
        if getattr(optimizer, beta) >= 1:
            yield Finding(view.key("optimizer", beta), "less than 1", "use 0.9 or 0.95")


def _decay(view: StageView, max_steps: int, limit: Key) -> Iterator[Finding]:
    """A wsd schedule has steps to fall over, behind its warm-up; the others take none."""
    optimizer, key = view.stage.optimizer, view.key("optimizer", "decay_steps")
    schedule = (view.key("optimizer", "schedule"),)
    if optimizer.schedule is not LearningRateSchedule.WSD:
        if optimizer.decay_steps:
            yield Finding(key, "0 for {0}", "use schedule: wsd", schedule)
    elif not optimizer.decay_steps:
        yield Finding(key, "at least 1 for {0}", "say over how many steps it falls", schedule)
    elif optimizer.warmup_steps + optimizer.decay_steps > max_steps:
        room = max_steps - optimizer.warmup_steps
        cites = (limit, view.key("optimizer", "warmup_steps"))
        yield Finding(key, "within {0} behind {1}", f"use {max(room, 0)} or less", cites)


def _ascends(numbers: tuple[int, ...]) -> bool:
    return bool(numbers) and all(a < b for a, b in pairwise(numbers))


_RULES: tuple[Rule, ...] = (
    candidates_ascend,
    budget_fits_the_context,
    bin_holds_the_longest_sequence,
    trace_fits_the_budget,
    supervised_stage_is_supervised,
    rl_stage_compares_samples,
    staleness_is_corrected,
    clips_are_in_range,
    steps_are_whole_rounds,
    exit_can_be_measured,
    evaluation_fits,
    task_has_the_problems,
    vocabulary_holds_the_task,
    schedule_uses_its_values,
)
