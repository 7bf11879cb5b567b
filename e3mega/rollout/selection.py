"""Which of the groups that were sampled for a round are trained on."""

from collections.abc import Sequence

from e3mega.rollout.records import Group


def mixed(groups: Sequence[Group]) -> list[Group]:
    """Groups whose samples differ in reward."""
    return [group for group in groups if len({r.marks.reward for r in group.rollouts}) > 1]


def keep_mixed(groups: Sequence[Group], count: int) -> tuple[Group, ...]:
    """The first ``count`` groups of mixed rewards; where they are too few, others fill up."""
    chosen = mixed(groups)
    flat = [group for group in groups if group not in chosen]
    return tuple([*chosen, *flat][:count])
