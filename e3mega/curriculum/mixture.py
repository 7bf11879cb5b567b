"""The order in which the prompts of a stage come: parts by weight, repeats limited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e3mega.curriculum.options import DataOptions, DataPart

_BLOCK = 128
"""Places that are laid out together."""
_ROUNDING = 1e-9
"""What sums of shares may be off by."""


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """What a filter reads of a prompt. Example: ``PromptFacts("easy", 0.25)``."""

    slice_name: str
    pass_rate: float | None
    """Graded share of right samples; None when it was never graded."""


def belongs(facts: PromptFacts, part: DataPart) -> bool:
    """Whether the prompt is in the part; bounds are included, an unknown rate passes no bound."""
    if part.slices is not None and facts.slice_name not in part.slices:
        return False
    if part.min_pass_rate is None and part.max_pass_rate is None:
        return True
    if facts.pass_rate is None:
        return False
    low = 0.0 if part.min_pass_rate is None else part.min_pass_rate
    high = 1.0 if part.max_pass_rate is None else part.max_pass_rate
    return low <= facts.pass_rate <= high


class Mixture:
    """An endless or limited order of prompts that can be entered at any place.

    Up to any place each part has had its share of the weights to within one place, counted anew
    from where a part was used up; within a part every prompt comes once before any comes again,
    each time in a new order. A part whose prompts have all come ``max_repeats`` times leaves its
    share to the others. Example:
    ``Mixture({"a": (0, 1)}, {"a": DataPart()}, entropy=(1, 2)).at(5)``.
    """

    def __init__(
        self,
        members: Mapping[str, Sequence[int]],
        parts: Mapping[str, DataPart],
        *,
        entropy: tuple[int, ...],
    ) -> None:
        self._names = [name for name in parts if len(members[name])]
        self._members = [np.asarray(members[name], np.int64) for name in self._names]
        self._parts = [parts[name] for name in self._names]
        self._entropy = entropy
        self._starts: list[NDArray[np.int64]] = [np.zeros(len(self._names), np.int64)]
        self._is_open = np.zeros(len(self._names), np.bool_)
        self._behind = np.zeros(len(self._names))
        """By how many places each part is behind its share; the open ones' sum is 0."""
        self._blocks: list[NDArray[np.int64]] = []
        self._epochs: dict[tuple[int, int], NDArray[np.int64]] = {}

    def at(self, place: int) -> int | None:
        """The member at a place, None behind the last one."""
        number, within = divmod(place, _BLOCK)
        while len(self._blocks) <= number:
            self._add_block()
        block = self._blocks[number]
        if within >= len(block):
            return None
        part = int(block[within])
        before = int(np.count_nonzero(block[:within] == part))
        return self._member(part, int(self._starts[number][part]) + before)

    def _member(self, part: int, count: int) -> int:
        """Member number ``count`` of the part's own stream."""
        epoch, position = divmod(count, len(self._members[part]))
        order = self._epochs.get((part, epoch))
        if order is None:
            seed = np.random.SeedSequence([*self._entropy, part, epoch])
            order = np.random.Generator(np.random.Philox(seed)).permutation(self._members[part])
            self._epochs[part, epoch] = order
        return int(order[position])

    def _left(self) -> NDArray[np.float64]:
        """Prompts that each part may still give, infinite without a limit."""
        limits = [
            np.inf if part.max_repeats is None else part.max_repeats * len(members)
            for part, members in zip(self._parts, self._members, strict=True)
        ]
        return np.array(limits, np.float64) - self._starts[-1].astype(np.float64)

    def _add_block(self) -> None:
        """The next 128 places: each goes to the part that would soonest be a whole place behind.

        Of those that are behind at all; no part ever is by more than one place then, as no job is
        late where the earliest deadline goes first.
        """
        left = self._left()
        weights = np.array([part.weight for part in self._parts])
        given = np.zeros(len(weights), np.int64)
        block: list[int] = []
        while len(block) < _BLOCK and (left - given > 0).any():
            is_open = left - given > 0
            if (is_open != self._is_open).any():
                self._is_open, self._behind = is_open, np.zeros(len(weights))
            shares = np.where(is_open, weights, 0.0)
            self._behind += shares / shares.sum()
            may_come = is_open & (self._behind > _ROUNDING)
            until_late = (1.0 - self._behind) / np.where(may_come, shares, 1.0)
            part = int(np.argmin(np.where(may_come, until_late, np.inf)))
            self._behind[part] -= 1.0
            given[part] += 1
            block.append(part)
        self._blocks.append(np.array(block, np.int64))
        self._starts.append(self._starts[-1] + given)


def mixture_of(
    facts: Sequence[PromptFacts], options: DataOptions, *, entropy: tuple[int, ...]
) -> Mixture:
    """The mixture of the options over prompts numbered as in ``facts``; no parts take them all."""
    parts = options.parts or {"all": DataPart()}
    members = {
        name: [number for number, each in enumerate(facts) if belongs(each, part)]
        for name, part in parts.items()
    }
    return Mixture(members, parts, entropy=entropy)


def comes_again(pass_rate: float | None, options: DataOptions) -> bool:
    """Whether a prompt with this share of right samples at its last visit may come again.

    A prompt that was not visited (None) may. Bounds of the admission are included.
    """
    if pass_rate is None:
        return True
    if options.drops_solved and pass_rate >= 1.0:
        return False
    bounds = options.admission
    return bounds is None or bounds.min_pass_rate <= pass_rate <= bounds.max_pass_rate
