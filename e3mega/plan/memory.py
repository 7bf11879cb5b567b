"""Counts a model's parameters, and the bytes that each rank of the learner and a server hold."""

import math
from dataclasses import dataclass

from e3mega.families.geometry import ModelOptions, Precision
from e3mega.plan.counts import Sizes, model_sizes, rank_sizes
from e3mega.plan.topology import GridPlace, num_expert_copies, rank_grid
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
    return model_sizes(model).total


def num_rank_parameters(model: ModelOptions, layout: LearnerLayout, place: GridPlace) -> int:
    """Parameters that one rank holds."""
    return rank_sizes(model, layout, place).total


def memory_per_rank(model: ModelOptions, layout: LearnerLayout) -> tuple[RankMemory, ...]:
    """Weights, gradients and optimizer state of every rank.

    Gradients are kept in fp32. The distributed optimizer divides its state among the ranks that
    hold the same parameters: dp * cp of them, of experts what is left beside expert_tp * ep.
    """
    grid = rank_grid(layout)
    # Ranks of one pipeline stage hold equally much, and a grid may have hundreds.
    one_of_each = {place.pp_rank: place for place in reversed(grid)}
    by_stage = {n: rank_sizes(model, layout, place) for n, place in one_of_each.items()}
    return tuple(_rank_memory(model, layout, place, by_stage[place.pp_rank]) for place in grid)


def _rank_memory(
    model: ModelOptions, layout: LearnerLayout, place: GridPlace, sizes: Sizes
) -> RankMemory:
    own_state = math.ceil(sizes.shared / (layout.dp * layout.cp))
    own_state += math.ceil(sizes.experts / num_expert_copies(layout))
    return RankMemory(
        place=place,
        weight_bytes=sizes.total * bytes_per_value(model.precision),
        gradient_bytes=sizes.total * 4,
        optimizer_bytes=own_state * (8 if model.precision is Precision.FLOAT32 else 12),
    )


def kv_bytes_per_token(model: ModelOptions) -> int:
    """Keys and values of one token in all layers of a server."""
    values = 2 * model.num_layers * model.num_kv_heads * model.head_dim
    return values * bytes_per_value(model.precision)
