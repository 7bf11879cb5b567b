"""Dynamic sampling: groups of equal rewards are dropped, and others sampled in their place."""

from collections.abc import Sequence
from dataclasses import dataclass

from e3mega.loop.jobs import Jobs
from e3mega.loop.requests import generate_groups
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.records import Group, Purpose
from e3mega.rollout.sampler import SampledRound
from e3mega.rollout.selection import keep_mixed, mixed


@dataclass(frozen=True, slots=True)
class RefilledRound:
    """The groups that a round trains on, and all that were sampled for it.

    Example: ``RefilledRound((group,), SampledRound((group, flat), 0, 0))``.
    """

    kept: tuple[Group, ...]
    sampled: SampledRound


async def sample_round(
    jobs: Jobs,
    stage: StagePlan,
    *,
    stage_round: int,
    places: Sequence[int],
    spares: Sequence[int],
    budget_tokens: int,
    version: int,
) -> RefilledRound:
    """Groups of the prompts at ``places``; without dynamic sampling all of them are kept.

    With it, each refill takes as many of ``spares`` as mixed groups are missing. Which prompts
    are sampled depends on nothing but the seed and the weights, so a killed round goes on with
    the same ones.
    """
    rule = stage.loss.dynamic_sampling
    num_waves = 1 if rule is None else 1 + rule.max_refills
    waves: list[SampledRound] = []
    taking, left = list(places), list(spares)
    for wave in range(num_waves):
        number = stage_round if wave == 0 else stage_round * (num_waves - 1) + wave - 1
        sampled = await generate_groups(
            jobs,
            stage,
            jobs.prompts(stage).prompts(taking),
            purpose=Purpose.REFILL if wave else Purpose.TRAIN,
            stage_round=number,
            num_samples=stage.rollout.samples_per_prompt,
            max_tokens=budget_tokens,
            version=version,
        )
        waves.append(sampled)
        missing = len(places) - len(mixed(_groups(waves)))
        taking, left = left[:missing], left[missing:]
        if missing <= 0 or not taking:
            break
    groups = _groups(waves)
    kept = groups if rule is None else keep_mixed(groups, len(places))
    whole = SampledRound(
        groups, sum(each.num_reused for each in waves), sum(each.num_redrawn for each in waves)
    )
    return RefilledRound(kept, whole)


def _groups(waves: Sequence[SampledRound]) -> tuple[Group, ...]:
    return tuple(group for wave in waves for group in wave.groups)
