"""What the loss takes from before the first step of a round."""

from e3mega.learner.micro_batch import Floats, RoundScores
from e3mega.learner.nthr import advantage_factors
from e3mega.learner.reference import References
from e3mega.learner.step import own_logprobs
from e3mega.mcore.build import LearnerModel
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.batch import PackedBatch


def round_scores(
    learner: LearnerModel,
    references: References,
    stage: StagePlan,
    batches: list[PackedBatch],
    *,
    stage_step: int,
) -> list[RoundScores]:
    """What the loss takes from before the first step of a round, for each of its batches."""
    loss, temperature = stage.loss, stage.generation.temperature

    def scored(is_needed: bool) -> list[Floats | None]:
        return [
            own_logprobs(learner, batch, temperature=temperature) if is_needed else None
            for batch in batches
        ]

    old = scored(len(batches) > 1 and loss.compares_with_start)
    compared = scored(False)
    if loss.kl is not None:
        references.prepare(stage, stage_step=stage_step)
        with references.swapped_in():
            compared = scored(True)
    factors = scored(False)
    if loss.sign.negative.tokens is not None:
        factors = [
            advantage_factors(learner, batch, loss.sign.negative.tokens, temperature=temperature)
            for batch in batches
        ]
    return [RoundScores(*each) for each in zip(old, compared, factors, strict=True)]
