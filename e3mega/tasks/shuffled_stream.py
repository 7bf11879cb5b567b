"""An endless stream of shuffled epochs that can be entered at any index."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class ShuffledStream:
    """Numbers 0 to size - 1, each once an epoch, with a random order of ``num_parts`` things.

    Example: ``ShuffledStream(1000, num_parts=3, entropy=(1, 2)).at(5) == (417, (2, 0, 1))``.
    """

    def __init__(self, size: int, *, num_parts: int, entropy: tuple[int, ...]) -> None:
        assert size > 0, "a stream needs something to draw from"
        self._size = size
        self._num_parts = num_parts
        self._entropy = entropy
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        seed = np.random.SeedSequence([*self._entropy, epoch])
        rng = np.random.Generator(np.random.Philox(seed))
        order = rng.permutation(self._size)
        parts = np.argsort(rng.random((self._size, self._num_parts)), axis=1)
        return order, parts

    def at(self, index: int) -> tuple[int, tuple[int, ...]]:
        """Element number ``index`` and the order of its parts."""
        epoch, position = divmod(index, self._size)
        order, parts = self._epoch(epoch)
        return int(order[position]), tuple(parts[position].tolist())
