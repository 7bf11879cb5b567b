"""Counts a model's parameters, and the bytes that each rank of the learner and a server hold."""

import math
from dataclasses import dataclass

from e3mega.families.geometry import ModelOptions, Precision
from e3mega.families.mapping import Place, Shard, Weight, padded_vocab_size
from e3mega.families.registry import weights
from e3mega.plan.topology import GridPlace, layers_of, num_expert_copies, rank_grid
from e3mega.spec.schema.layout import LearnerLayout


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Bytes that one rank of the learner holds, whatever batch it is given.

    Example: ``RankMemory(place, 1_200_000, 1_200_000, 2_400_000)``.
    """

    place: GridPlace
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    """Two moments, and main weights where training is in bfloat16, shared among dp ranks."""

    @property
    def total_bytes(self) -> int:
        """The sum of the parts."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes


def bytes_per_value(precision: Precision) -> int:
    """4 for float32, 2 for bfloat16."""
    return 4 if precision is Precision.FLOAT32 else 2


def num_parameters(model: ModelOptions) -> int:
    """Parameters of the whole model, a tied LM head counted once."""
    return sum(math.prod(tensor.shape) for weight in weights(model) for tensor in weight.hf)


def num_rank_parameters(model: ModelOptions, layout: LearnerLayout, place: GridPlace) -> int:
    """Parameters that one rank holds; a tied LM head is a second copy on the last of several
    pipeline stages."""
    return sum(_rank_sizes(model, layout, place))


def memory_per_rank(model: ModelOptions, layout: LearnerLayout) -> tuple[RankMemory, ...]:
    """Weights, gradients and optimizer state of every rank.

    Gradients are kept in fp32. The distributed optimizer divides its state among the ranks that
    hold the same parameters: dp * cp of them, of experts what is left beside expert_tp * ep.
    """
    found: list[RankMemory] = []
    for place in rank_grid(layout):
        shared, experts = _rank_sizes(model, layout, place)
        count = shared + experts
        own_state = math.ceil(shared / (layout.dp * layout.cp))
        own_state += math.ceil(experts / num_expert_copies(layout))
        state = 8 if model.precision is Precision.FLOAT32 else 12
        found.append(
            RankMemory(
                place=place,
                weight_bytes=count * bytes_per_value(model.precision),
                gradient_bytes=count * 4,
                optimizer_bytes=own_state * state,
            )
        )
    return tuple(found)


def kv_bytes_per_token(model: ModelOptions) -> int:
    """Keys and values of one token in all layers of a server."""
    values = 2 * model.num_layers * model.num_kv_heads * model.head_dim
    return values * bytes_per_value(model.precision)


def _rank_sizes(model: ModelOptions, layout: LearnerLayout, place: GridPlace) -> tuple[int, int]:
    """Parameters of one rank: those of all tokens, and those of its experts."""
    sizes = [0, 0]
    for weight in weights(model):
        copies = _num_copies(weight, model, layout, place)
        sizes[weight.expert is not None] += copies * _shard_size(weight, layout)
    return sizes[0], sizes[1]


def _num_copies(
    weight: Weight, model: ModelOptions, layout: LearnerLayout, place: GridPlace
) -> int:
    is_first, is_last = place.pp_rank == 0, place.pp_rank == layout.pp - 1
    if weight.expert is not None and model.experts is not None:
        per_rank = model.experts.num_experts // layout.ep
        if weight.expert // per_rank != place.ep_rank:
            return 0
    if weight.place is Place.LAYER:
        held = layers_of(model.num_layers, layout, place.pp_rank)
        return int(any(weight.layer in layers for layers in held))
    if weight.place is Place.LAST:
        return int(is_last)
    has_copy = bool(weight.copy_name) and layout.pp > 1 and is_last
    return int(is_first) + int(has_copy)


def _shard_size(weight: Weight, layout: LearnerLayout) -> int:
    size = sum(math.prod(tensor.shape) for tensor in weight.hf)
    if weight.shard is Shard.REPLICATED:
        return size
    if weight.shard is Shard.VOCAB:
        rows, width = weight.hf[0].shape
        return padded_vocab_size(rows, layout.tp) // layout.tp * width
    return size // (layout.tp if weight.expert is None else layout.expert_tp)
