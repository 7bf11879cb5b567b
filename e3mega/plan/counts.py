"""Counts parameters by what divides them, from one layer of each kind, so that it is quick."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from e3mega.families.geometry import ModelOptions
from e3mega.families.mapping import Place, Shard, Weight, padded_vocab_size
from e3mega.families.registry import end_weights, layer_weights
from e3mega.plan.topology import GridPlace, layers_of
from e3mega.spec.schema.layout import LearnerLayout


def _of_model[T](count: Callable[[ModelOptions], T]) -> Callable[[ModelOptions], T]:
    """The function with its last results kept.

    pydantic gives frozen models a hash that type checkers do not see, hence the cast.
    """
    return cast(Callable[[ModelOptions], T], lru_cache(maxsize=8)(cast(Callable[[Any], T], count)))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters of a part of the model, on one rank or of all of it.

    Example: ``Sizes(shared=4_000_000, experts=0)``.
    """

    shared: int = 0
    """Those that every token uses."""
    experts: int = 0
    """Those of experts, each used by a share of the tokens."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.shared + self.experts

    def plus(self, other: "Sizes", times: int = 1) -> "Sizes":
        """The sum with another part that is there several times."""
        return Sizes(self.shared + times * other.shared, self.experts + times * other.experts)


@_of_model
def model_sizes(model: ModelOptions) -> Sizes:
    """Parameters of the whole model, a tied LM head counted once."""
    whole = _sum(end_weights(model))
    for layers, sizes in _kinds(model):
        whole = whole.plus(sizes, len(layers))
    return whole


@_of_model
def active_matrix_sizes(model: ModelOptions) -> int:
    """Entries of the matrices that one token is multiplied with, LM head included.

    Of the experts it meets ``experts_per_token``; the embedding is looked up, not multiplied.
    """
    found = model.vocab_size * model.hidden_size
    for layers, weights in _kind_weights(model):
        matrices = _sum(weight for weight in weights if len(weight.hf[0].shape) == 2)
        active = matrices.shared
        if model.experts is not None:
            active += (
                matrices.experts * model.experts.experts_per_token // model.experts.num_experts
            )
        found += len(layers) * active
    return found


def rank_sizes(model: ModelOptions, layout: LearnerLayout, place: GridPlace) -> Sizes:
    """Parameters that one rank holds; a tied LM head is a second copy on the last of several
    pipeline stages."""
    held = {
        layer for chunk in layers_of(model.num_layers, layout, place.pp_rank) for layer in chunk
    }
    found = Sizes()
    for weight in end_weights(model):
        found = found.plus(_shard(weight, layout), _num_copies(weight, layout, place))
    for layers, weights in _kind_weights(model):
        num_held = len(held.intersection(layers))
        if num_held:
            found = found.plus(_sum_of_shards(weights, model, layout), num_held)
    return found


def largest_tensor_size(model: ModelOptions) -> int:
    """Entries of the largest Hugging Face tensor."""
    kinds = [weight for _, weights in _kind_weights(model) for weight in weights]
    return max(
        math.prod(tensor.shape) for weight in [*end_weights(model), *kinds] for tensor in weight.hf
    )


@_of_model
def _kind_weights(model: ModelOptions) -> list[tuple[list[int], tuple[Weight, ...]]]:
    """The layers of each kind, dense or with experts, with the weights of one of them."""
    found: list[tuple[list[int], tuple[Weight, ...]]] = []
    for has_experts in (False, True):
        layers = [n for n in range(model.num_layers) if model.has_experts_in(n) is has_experts]
        if layers:
            found.append((layers, layer_weights(model, layers[0])))
    return found


def _kinds(model: ModelOptions) -> list[tuple[list[int], Sizes]]:
    return [(layers, _sum(weights)) for layers, weights in _kind_weights(model)]


def _sum(weights: Iterable[Weight]) -> Sizes:
    shared = experts = 0
    for weight in weights:
        size = sum(math.prod(tensor.shape) for tensor in weight.hf)
        if weight.expert is None:
            shared += size
        else:
            experts += size
    return Sizes(shared, experts)


def _sum_of_shards(
    weights: tuple[Weight, ...], model: ModelOptions, layout: LearnerLayout
) -> Sizes:
    """One rank's shards of a layer; every ep rank holds equally many experts."""
    found = Sizes()
    for weight in weights:
        found = found.plus(_shard(weight, layout))
    return Sizes(found.shared, found.experts // layout.ep)


def _shard(weight: Weight, layout: LearnerLayout) -> Sizes:
    size = sum(math.prod(tensor.shape) for tensor in weight.hf)
    if weight.shard is Shard.VOCAB:
        rows, width = weight.hf[0].shape
        size = padded_vocab_size(rows, layout.tp) // layout.tp * width
    elif weight.shard is not Shard.REPLICATED:
        size //= layout.tp if weight.expert is None else layout.expert_tp
    return Sizes(size, 0) if weight.expert is None else Sizes(0, size)


def _num_copies(weight: Weight, layout: LearnerLayout, place: GridPlace) -> int:
    is_first, is_last = place.pp_rank == 0, place.pp_rank == layout.pp - 1
    if weight.place is Place.LAST:
        return int(is_last)
    has_copy = bool(weight.copy_name) and layout.pp > 1 and is_last
    return int(is_first) + int(has_copy)
