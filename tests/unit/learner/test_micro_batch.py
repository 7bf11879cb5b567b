"""Context-parallel ranks cut every sequence into balanced halves; alignment adds only padding."""

import numpy as np
import pytest

from e3mega.learner.micro_batch import BinOrder, bin_order, context_share, padded
from e3mega.spec.schema.layout import Device, Fp8, LearnerLayout
from tests.learner_cases import packed, random_sequences


@pytest.mark.parametrize("cp", [1, 2, 4])
def test_each_token_is_computed_by_one_rank_and_pairs_are_shared_evenly(cp: int) -> None:
    lengths = [8, 24, 64, 16]
    positions_A = np.concatenate([np.arange(length) for length in lengths])
    shares = [context_share(positions_A, cp=cp, cp_rank=rank) for rank in range(cp)]
    assert sorted(np.concatenate(shares)) == list(range(sum(lengths)))
    # A token at position p looks at p + 1 tokens of its sequence.
    pairs = [int((positions_A[share] + 1).sum()) for share in shares]
    assert len(set(pairs)) == 1


def test_a_rank_takes_a_part_of_each_end() -> None:
    positions_A = np.arange(8)
    assert list(context_share(positions_A, cp=2, cp_rank=0)) == [0, 1, 6, 7]
    assert list(context_share(positions_A, cp=2, cp_rank=1)) == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("layout", "multiple"),
    [
        (LearnerLayout(), 1),
        (LearnerLayout(tp=4, sequence_parallel=True), 4),
        (LearnerLayout(cp=3), 6),
        (LearnerLayout(tp=2, cp=2, sequence_parallel=True), 4),
        (LearnerLayout(device=Device.GPU, fp8=Fp8.DELAYED, cp=2), 256),
    ],
)
def test_a_bin_is_lengthened_to_what_the_ranks_share(layout: LearnerLayout, multiple: int) -> None:
    batch = packed(random_sequences(12, seed=3))
    for number in range(len(batch.tokens_NT)):
        order = bin_order(batch, number, layout)
        assert len(order.source_A) % multiple == 0
        is_own = order.source_A >= 0
        own = order.source_A[is_own]
        assert list(own) == list(range(len(own))), "every token once, in the bin's order"
        assert not batch.mask_NT[number, len(own) :].any(), "only padding is left out"
        assert np.array_equal(order.positions_A[is_own], batch.positions_NT[number, : len(own)])
        if layout.cp > 1:
            ends = [*np.flatnonzero(order.positions_A == 0)[1:], len(order.positions_A)]
            assert all(end % (2 * layout.cp) == 0 for end in ends)


def test_what_is_added_is_a_sequence_of_its_own() -> None:
    order = padded(BinOrder(np.arange(5), np.array([0, 1, 2, 0, 1])), 8)
    assert list(order.source_A) == [0, 1, 2, 3, 4, -1, -1, -1]
    assert list(order.positions_A) == [0, 1, 2, 0, 1, 0, 1, 2]
