"""Holds what the stages of a new run ask of their data against what the tasks have."""

from collections.abc import Sequence

from e3mega.curriculum.options import PlateauExit, RecognitionExit, Signal, TargetExit
from e3mega.errors import E3Error
from e3mega.loop.prompts import PromptSource
from e3mega.plan.planfile import Plan, StagePlan
from e3mega.spec.schema.curriculum import StageMode
from e3mega.tasks.interface import Task


def check_data(plan: Plan, tasks: Sequence[Task]) -> None:
    """E3Error naming the stage whose data lack what it trains on or is measured by.

    All that a stage would find out only when its turn comes, hours into the run.
    """
    for stage, task in zip(plan.stages, tasks, strict=True):
        try:
            _check_training(stage, task, plan.seed)
            task.held_out_prompts(_num_measured(plan, stage))
        except E3Error as error:
            raise E3Error(f"stage {stage.name}: {error}") from error


def _check_training(stage: StagePlan, task: Task, seed: int) -> None:
    if task.num_training == 0:
        raise E3Error("its task has no training problems; see task.split")
    if stage.mode is StageMode.RL:
        PromptSource(task, stage.data, seed=seed, stage_index=stage.index).check_parts()
        return
    task.trace(0)
    if isinstance(stage.exit, RecognitionExit):
        task.probes(2)


def _num_measured(plan: Plan, stage: StagePlan) -> int:
    """Held-out problems that the stage's measurements take."""
    options, leave = stage.evaluation, stage.exit
    if stage.mode is StageMode.SUPERVISED:
        is_read = isinstance(leave, PlateauExit | TargetExit) and leave.of is Signal.ACCURACY
        return options.num_problems if is_read else 0
    first = next(each.index for each in plan.stages if each.mode is StageMode.RL)
    has_pass_k = stage.index in (first, len(plan.stages) - 1)
    return max(options.num_problems, options.pass_num_problems if has_pass_k else 0)
