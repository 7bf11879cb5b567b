"""Which rank of the learner stands where in the grid."""

from dataclasses import dataclass

from e3mega.spec.schema.layout import LearnerLayout


@dataclass(frozen=True, slots=True)
class GridPlace:
    """One rank's coordinates. Example: ``GridPlace(world_rank=3, tp_rank=1, dp_rank=0, pp_rank=1)``
    for tp=2, dp=1, pp=2."""

    world_rank: int
    tp_rank: int
    dp_rank: int
    pp_rank: int


def num_learner_ranks(layout: LearnerLayout) -> int:
    """``tp * pp * dp``."""
    return layout.tp * layout.pp * layout.dp


def rank_grid(layout: LearnerLayout) -> tuple[GridPlace, ...]:
    """All ranks in Megatron's order: neighbours differ in tp first, then in dp, then in pp."""
    return tuple(
        GridPlace(
            world_rank=rank,
            tp_rank=rank % layout.tp,
            dp_rank=rank // layout.tp % layout.dp,
            pp_rank=rank // (layout.tp * layout.dp),
        )
        for rank in range(num_learner_ranks(layout))
    )


def layers_of(num_layers: int, pp: int, pp_rank: int) -> range:
    """The layers that a pipeline stage holds; ``pp`` divides ``num_layers``."""
    each = num_layers // pp
    return range(pp_rank * each, (pp_rank + 1) * each)
