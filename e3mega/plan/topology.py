"""Which rank of the learner stands where in the grid, and which layers it holds."""

from dataclasses import dataclass

from e3mega.spec.schema.layout import LearnerLayout


@dataclass(frozen=True, slots=True)
class GridPlace:
    """One rank's coordinates. Example: ``GridPlace(world_rank=3, tp_rank=1, cp_rank=0, dp_rank=0,
    pp_rank=1, ep_rank=0, expert_tp_rank=0)`` for tp=2, pp=2."""

    world_rank: int
    tp_rank: int
    cp_rank: int
    dp_rank: int
    pp_rank: int
    ep_rank: int
    expert_tp_rank: int


def num_stage_ranks(layout: LearnerLayout) -> int:
    """Ranks of one pipeline stage: ``tp * cp * dp``."""
    return layout.tp * layout.cp * layout.dp


def num_learner_ranks(layout: LearnerLayout) -> int:
    """``tp * cp * dp * pp``."""
    return num_stage_ranks(layout) * layout.pp


def num_expert_copies(layout: LearnerLayout) -> int:
    """Data-parallel ranks of an expert's shard: what is left of a stage's ranks beside
    ``expert_tp * ep``."""
    return num_stage_ranks(layout) // (layout.expert_tp * layout.ep)


def rank_grid(layout: LearnerLayout) -> tuple[GridPlace, ...]:
    """All ranks in Megatron's order: neighbours differ in tp first, then in cp, dp and pp; for
    experts in expert_tp first, then in ep."""
    return tuple(_place(layout, rank) for rank in range(num_learner_ranks(layout)))


def _place(layout: LearnerLayout, rank: int) -> GridPlace:
    within_stage = rank % num_stage_ranks(layout)
    return GridPlace(
        world_rank=rank,
        tp_rank=rank % layout.tp,
        cp_rank=rank // layout.tp % layout.cp,
        dp_rank=within_stage // (layout.tp * layout.cp),
        pp_rank=rank // num_stage_ranks(layout),
        ep_rank=within_stage // layout.expert_tp % layout.ep,
        expert_tp_rank=within_stage % layout.expert_tp,
    )


def chunk_layers(num_layers: int, layout: LearnerLayout) -> tuple[range, ...]:
    """The layers of each part of the model, in its order.

    Part ``number`` is on pipeline rank ``number % pp``, as that rank's chunk ``number // pp``.
    """
    num_chunks = layout.pp * layout.chunks_per_stage
    sizes = layout.layers_per_chunk or (num_layers // num_chunks,) * num_chunks
    ends = [sum(sizes[: number + 1]) for number in range(num_chunks)]
    return tuple(range(end - size, end) for end, size in zip(ends, sizes, strict=True))


def layers_of(num_layers: int, layout: LearnerLayout, pp_rank: int) -> tuple[range, ...]:
    """The layers of each chunk of a pipeline rank."""
    return chunk_layers(num_layers, layout)[pp_rank :: layout.pp]


def num_bins_multiple(layout: LearnerLayout) -> int:
    """The number of bins of a batch is a multiple of it: every data-parallel rank gets equally
    many, and interleaved stages take as many at a time as there are pipeline ranks."""
    return layout.dp * (layout.pp if layout.chunks_per_stage > 1 else 1)
