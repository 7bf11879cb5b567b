"""The plan of three stages on three grids, and the same steps on one grid; for the warm parent."""

from dataclasses import replace

from e3mega.learner.step import train_step
from e3mega.mcore.build import build_learner
from e3mega.mcore.parallel import RankGrid
from e3mega.plan.planfile import Plan
from e3mega.rollout.batch import PackedBatch
from e3mega.spec.schema.layout import LearnerLayout
from e3mega.weights.load import load_start
from tests.learner_cases import packed, random_sequences, tiny_plan

GRIDS = {
    "tp2": LearnerLayout(tp=2),
    "dp2": LearnerLayout(dp=2),
    "one_rank": LearnerLayout(),
}
STEPS_PER_STAGE = 3


def three_stage_plan() -> Plan:
    """The tiny plan with one stage a grid, each a segment of its own."""
    plan = tiny_plan(GRIDS["tp2"])
    stages = [
        replace(plan.stages[0], name=name, index=index, learner=grid, segment=index)
        for index, (name, grid) in enumerate(GRIDS.items())
    ]
    return replace(plan, stages=tuple(stages))


def recorded_batch(step: int) -> PackedBatch:
    """What the step with this number consumes, whatever the grid."""
    return packed(random_sequences(12, seed=step), step=step)


def train_straight(grid: RankGrid) -> list[float]:
    """Losses of all stages' steps without a boundary."""
    plan = three_stage_plan()
    one_grid = replace(plan, layout=plan.layout.model_copy(update={"learner": grid.layout}))
    learner = build_learner(one_grid, grid)
    load_start(learner, seed=plan.seed)
    losses: list[float] = []
    for stage in plan.stages:
        for stage_step in range(STEPS_PER_STAGE):
            batch = recorded_batch(len(losses))
            metrics = train_step(learner, batch, stage, stage_step=stage_step)
            losses.append(metrics["loss"])
    return losses
