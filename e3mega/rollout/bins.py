"""Divides sequences among bins of equal length so that every data-parallel rank works equally."""

from collections.abc import Sequence
from dataclasses import dataclass

from e3mega.families.geometry import ModelOptions
from e3mega.plan.flops import pair_cost
from e3mega.plan.topology import num_bins_multiple
from e3mega.spec.schema.layout import LearnerLayout


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sequence lies in a batch. Example: ``Place(bin=1, segment=0, start=0)``."""

    bin: int
    segment: int
    start: int
    """Token of the bin at which the sequence starts."""


@dataclass(frozen=True, slots=True)
class BinRules:
    """What bins are like. Example: ``BinRules(2048, num_bins_multiple=2, pair_cost=1e-4)``."""

    packed_tokens: int
    """Tokens of one bin."""
    num_bins_multiple: int
    """The number of bins is a multiple of it; bin b is of rank b modulo the data-parallel size,
    which divides it."""
    pair_cost: float
    """Work of one pair of tokens in attention, in units of one token's work in the matrices."""

    def cost(self, num_tokens: int) -> float:
        """Work of one sequence: causal attention looks at T (T + 1) / 2 pairs of its tokens."""
        return num_tokens + self.pair_cost * num_tokens * (num_tokens + 1) / 2


def bin_rules(model: ModelOptions, layout: LearnerLayout, packed_tokens: int) -> BinRules:
    """Bins for a model on a rank grid."""
    return BinRules(packed_tokens, num_bins_multiple(layout), pair_cost(model))


def place(lengths: Sequence[int], rules: BinRules) -> tuple[tuple[Place, ...], int]:
    """Places of sequences of these lengths, in their order, and the number of bins.

    As few bins as first-fit decreasing needs, and what the multiple adds. Over these the sequences
    are spread, longest first, each into the bin with the least work that has room; where that
    leaves one without room, first-fit's bins stay. Then the bins are dealt to the ranks, the
    heaviest left to the rank with the least work. Ties go by position, so the outcome depends on
    nothing else.
    """
    assert lengths, "a batch needs at least one sequence"
    longest, packed_tokens = max(lengths), rules.packed_tokens
    assert longest <= packed_tokens, f"a sequence of {longest} tokens in bins of {packed_tokens}"
    assert min(lengths) > 0, "an empty sequence cannot be packed"
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    bins = _first_fit(lengths, order, packed_tokens)
    multiple = rules.num_bins_multiple
    num_bins = -(-len(bins) // multiple) * multiple
    bins += [[] for _ in range(num_bins - len(bins))]
    bins = _dealt(_spread(lengths, order, num_bins, rules) or bins, lengths, rules)
    places: list[Place | None] = [None] * len(lengths)
    for number, members in enumerate(bins):
        start = 0
        for segment, index in enumerate(members):
            places[index] = Place(number, segment, start)
            start += lengths[index]
    return tuple(found for found in places if found is not None), num_bins


def _first_fit(lengths: Sequence[int], order: list[int], packed_tokens: int) -> list[list[int]]:
    """Each sequence into the first bin with room."""
    bins: list[list[int]] = []
    room: list[int] = []
    for index in order:
        chosen = next((b for b, left in enumerate(room) if left >= lengths[index]), len(room))
        if chosen == len(room):
            room.append(packed_tokens)
            bins.append([])
        bins[chosen].append(index)
        room[chosen] -= lengths[index]
    return bins


def _spread(
    lengths: Sequence[int], order: list[int], num_bins: int, rules: BinRules
) -> list[list[int]]:
    """Each sequence into the bin with the least work that has room; empty if one finds none."""
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    room, work = [rules.packed_tokens] * num_bins, [0.0] * num_bins
    for index in order:
        length = lengths[index]
        fitting = [number for number in range(num_bins) if room[number] >= length]
        if not fitting:
            return []
        chosen = min(fitting, key=lambda number: (work[number], number))
        bins[chosen].append(index)
        room[chosen] -= length
        work[chosen] += rules.cost(length)
    return bins


def _dealt(bins: list[list[int]], lengths: Sequence[int], rules: BinRules) -> list[list[int]]:
    """The bins in rounds of one for each rank, so that the ranks' sums of work are near."""
    work = [sum(rules.cost(lengths[index]) for index in members) for members in bins]
    heaviest = sorted(range(len(bins)), key=lambda number: (-work[number], number))
    width = rules.num_bins_multiple
    loads = [0.0] * width
    found: list[list[int]] = [[] for _ in bins]
    for first in range(0, len(bins), width):
        lightest = sorted(range(width), key=lambda rank: (loads[rank], rank))
        for rank, number in zip(lightest, heaviest[first : first + width], strict=True):
            found[first + rank] = bins[number]
            loads[rank] += work[number]
    return found
