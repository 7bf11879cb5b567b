"""Which rank of the learner stands where in the grid, and which layers it holds."""

from dataclasses import dataclass

from e3mega.families.geometry import ModelOptions
from e3mega.families.mapping import Place, Shard, Weight
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


def pp_rank_of(model: ModelOptions, layout: LearnerLayout, weight: Weight) -> int:
    """The pipeline rank that holds a weight; of a tied embedding the one with the embedding."""
    if weight.place is Place.FIRST:
        return 0
    if weight.place is Place.LAST:
        return layout.pp - 1
    parts = chunk_layers(model.num_layers, layout)
    return next(part for part, layers in enumerate(parts) if weight.layer in layers) % layout.pp


def shard_holders(model: ModelOptions, layout: LearnerLayout, weight: Weight) -> tuple[int, ...]:
    """World ranks of the first copy of each shard of a weight, in the order of the shards."""
    first = pp_rank_of(model, layout, weight) * num_stage_ranks(layout)
    num_shards = layout.tp
    if weight.expert is not None:
        assert model.experts is not None, "an expert's weight belongs to a model with experts"
        ep_rank = weight.expert // (model.experts.num_experts // layout.ep)
        first += ep_rank * layout.expert_tp
        num_shards = layout.expert_tp
    if weight.shard is Shard.REPLICATED:
        num_shards = 1
    return tuple(range(first, first + num_shards))
