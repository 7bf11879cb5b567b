"""Packing puts each token into exactly one place and round-trips through its file."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e3mega.errors import RecordError
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.batch_file import ARRAY_NAMES, HEADER_NAMES, read_batch, write_batch
from e3mega.rollout.bins import BinRules, place
from e3mega.rollout.packing import pack
from e3mega.rollout.records import TrainSequence

PAIR_COST = 0.01


def make_sequences(lengths: list[tuple[int, int]], seed: int = 0) -> list[TrainSequence]:
    rng = np.random.default_rng(seed)
    return [
        TrainSequence(
            token_ids=tuple(int(t) for t in rng.integers(1, 100, prompt + answer)),
            num_prompt_tokens=prompt,
            advantages=tuple(float(x) for x in rng.normal(size=answer)),
            rollout_logprobs=tuple(float(x) for x in -rng.random(answer)),
            loss_mask=tuple(float(x) for x in rng.integers(0, 2, answer)),
            is_correct=bool(rng.integers(0, 2)),
            group=number // 2,
        )
        for number, (prompt, answer) in enumerate(lengths)
    ]


def make_batch(
    sequences: list[TrainSequence], packed_tokens: int = 64, multiple: int = 1
) -> PackedBatch:
    return pack(
        sequences,
        normalizer=17.0,
        rules=BinRules(packed_tokens, multiple, PAIR_COST),
        stage="easy",
        step=3,
        round=2,
        version=3,
        lag=0,
    )


def unpack(batch: PackedBatch) -> list[tuple[int, ...]]:
    """The sequences of a batch, read back by segment number alone, in sorted order."""
    found: list[tuple[int, ...]] = []
    for tokens, segments, positions in zip(
        batch.tokens_NT, batch.segments_NT, batch.positions_NT, strict=True
    ):
        for segment in range(segments.max() + 1):
            inside = np.flatnonzero(segments == segment)
            assert np.array_equal(inside, np.arange(inside[0], inside[-1] + 1))
            assert np.array_equal(positions[inside], np.arange(len(inside)))
            if tokens[inside].any():
                found.append(tuple(int(t) for t in tokens[inside]))
    return sorted(found)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 10), st.integers(1, 54)), min_size=1, max_size=40),
    st.integers(1, 4),
)
def test_each_token_lies_in_exactly_one_place(lengths: list[tuple[int, int]], dp: int) -> None:
    sequences = make_sequences(lengths)
    batch = make_batch(sequences, multiple=dp)
    assert unpack(batch) == sorted(sequence.token_ids for sequence in sequences)
    assert len(batch.tokens_NT) % dp == 0
    assert np.count_nonzero(batch.tokens_NT) == sum(p + a for p, a in lengths)
    assert batch.mask_NT.sum() == sum(sum(s.loss_mask) for s in sequences)


def test_values_of_a_sequence_stand_at_its_place() -> None:
    sequences = make_sequences([(3, 20), (2, 40), (5, 9), (1, 30)])
    batch = make_batch(sequences, multiple=2)
    places, num_bins = place([len(s.token_ids) for s in sequences], BinRules(64, 2, PAIR_COST))
    assert num_bins == len(batch.tokens_NT)
    for sequence, at in zip(sequences, places, strict=True):
        for offset, token in enumerate(sequence.token_ids):
            cell = (at.bin, at.start + offset)
            answer = offset - sequence.num_prompt_tokens
            mask = sequence.loss_mask[answer] if answer >= 0 else 0.0
            logprob = sequence.rollout_logprobs[answer] if answer >= 0 else 0.0
            advantage = sequence.advantages[answer] if answer >= 0 else 0.0
            assert batch.tokens_NT[cell] == token
            assert batch.mask_NT[cell] == mask
            assert batch.advantages_NT[cell] == np.float32(mask * advantage)
            assert batch.rollout_logprobs_NT[cell] == np.float32(logprob)
            assert batch.correct_NT[cell] == (sequence.is_correct and answer >= 0)
            assert batch.groups_NT[cell] == (sequence.group if answer >= 0 else -1)


def test_padding_trains_nothing_and_is_a_sequence_of_its_own() -> None:
    batch = make_batch(make_sequences([(2, 10)]), multiple=2)
    assert list(batch.segments_NT[0, 11:13]) == [0, 1]
    assert list(batch.positions_NT[0, 11:14]) == [11, 0, 1]
    assert not batch.mask_NT[1].any()
    assert batch.segments_NT[1].max() == 0


def test_packing_is_tight_enough_and_quick() -> None:
    rng = np.random.default_rng(1)
    sequences = make_sequences([(7, int(n)) for n in rng.integers(10, 129, 256)])
    make_batch(sequences, packed_tokens=1024)
    start = time.perf_counter()
    batch = make_batch(sequences, packed_tokens=1024)
    assert time.perf_counter() - start < 0.1
    num_tokens = sum(len(s.token_ids) for s in sequences)
    assert len(batch.tokens_NT) <= -(-num_tokens // 1024) + 1


def test_a_batch_survives_its_file(tmp_path: Path) -> None:
    batch = make_batch(make_sequences([(3, 20), (2, 40)]))
    path = tmp_path / "easy" / "step_000003.safetensors"
    write_batch(path, batch)
    again = read_batch(path)
    assert all(getattr(again, name) == getattr(batch, name) for name in HEADER_NAMES)
    for name in ARRAY_NAMES:
        assert getattr(again, name).dtype == getattr(batch, name).dtype
        assert np.array_equal(getattr(again, name), getattr(batch, name))
    first = path.read_bytes()
    write_batch(path, batch)
    assert path.read_bytes() == first
    assert [child.name for child in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "other"])
def test_a_damaged_batch_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "step_000003.safetensors"
    write_batch(path, make_batch(make_sequences([(3, 20)])))
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-5])
    elif damage == "flipped":
        path.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    elif damage == "missing":
        path.unlink()
    else:
        path.write_text("not a batch")
    with pytest.raises(RecordError, match="step_000003"):
        read_batch(path)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_get_equal_work_with_pairs_counted(ranks: int) -> None:
    """Lengths as heavy-tailed as reasoning's; first-fit alone gives one rank 1.4 times the mean."""
    rng = np.random.default_rng(3)
    lengths = [int(n) for n in np.clip(rng.lognormal(6.0, 0.8, 256), 8, 4096)]
    places, num_bins = place(lengths, BinRules(8192, ranks, pair_cost=1e-4))
    work, tokens = [0.0] * ranks, [0] * num_bins
    for length, at in zip(lengths, places, strict=True):
        # Pair by pair: a token looks at itself and at those before it.
        work[at.bin % ranks] += sum(1 + 1e-4 * seen for seen in range(1, length + 1))
        tokens[at.bin] += length
        assert at.start + length <= 8192
    assert num_bins % ranks == 0
    assert max(work) <= 1.002 * sum(work) / ranks
    assert max(tokens) <= 8192


def test_bins_that_are_full_stay_as_first_fit_made_them() -> None:
    """Sequences of 60, 30 and 10 tokens fill three bins of 100 to the last token."""
    places, num_bins = place([60, 30, 10] * 3, BinRules(100, 1, PAIR_COST))
    assert num_bins == 3
    filled = [0] * 3
    for length, at in zip([60, 30, 10] * 3, places, strict=True):
        assert at.start >= 0
        filled[at.bin] += length
    assert filled == [100, 100, 100]
