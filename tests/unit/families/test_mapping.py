"""Shards of the mapping table against slow loops over heads and rows."""

import numpy as np
import pytest

from e3mega.families.geometry import Family, ModelOptions
from e3mega.families.mapping import Shard, Weight, pieces
from e3mega.families.registry import weights

MODEL = ModelOptions(
    family=Family.QWEN3,
    num_layers=2,
    hidden_size=24,
    num_heads=8,
    num_kv_heads=4,
    head_dim=3,
    ffn_size=12,
    vocab_size=40,
    max_context_tokens=64,
    ties_embeddings=False,
)


def _hf(weight: Weight) -> list[np.ndarray]:
    """Every entry of every tensor is a number of its own."""
    rng = np.random.default_rng(0)
    return [rng.random(tensor.shape) for tensor in weight.hf]


def _shard(weight: Weight, tp_rank: int, tp: int) -> np.ndarray:
    tensors = _hf(weight)
    axis = 1 if weight.shard is Shard.ROW else 0
    return np.concatenate(
        [
            np.take(tensors[piece.source], range(piece.start, piece.stop), axis=piece.dim)
            for piece in pieces(weight, tp_rank=tp_rank, tp=tp)
        ],
        axis=axis,
    )


def _named(suffix: str) -> Weight:
    return next(w for w in weights(MODEL) if w.layer == 1 and w.megatron_name.endswith(suffix))


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_fused_qkv_holds_each_group_s_queries_then_its_key_and_value(tp: int) -> None:
    weight = _named("linear_qkv.weight")
    query, key, value = _hf(weight)
    queries_per_group, groups_per_rank = 8 // 4, 4 // tp
    for tp_rank in range(tp):
        rows: list[np.ndarray] = []
        for group in range(tp_rank * groups_per_rank, (tp_rank + 1) * groups_per_rank):
            for head in range(group * queries_per_group, (group + 1) * queries_per_group):
                rows += list(query[head * 3 : head * 3 + 3])
            rows += list(key[group * 3 : group * 3 + 3])
            rows += list(value[group * 3 : group * 3 + 3])
        assert np.array_equal(_shard(weight, tp_rank, tp), np.array(rows))


def test_a_group_may_be_divided_among_ranks() -> None:
    weight = _named("linear_qkv.weight")
    whole = _shard(weight, 0, 1)
    shares = [_shard(weight, tp_rank, 8) for tp_rank in range(8)]
    assert np.array_equal(np.concatenate(shares), whole)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_gate_and_up_are_each_divided(tp: int) -> None:
    weight = _named("linear_fc1.weight")
    gate, up = _hf(weight)
    for tp_rank in range(tp):
        first, last = tp_rank * 12 // tp, (tp_rank + 1) * 12 // tp
        assert np.array_equal(
            _shard(weight, tp_rank, tp), np.concatenate([gate[first:last], up[first:last]])
        )


@pytest.mark.parametrize("suffix", ["linear_proj.weight", "linear_fc2.weight"])
def test_row_parallel_layers_are_divided_by_columns(suffix: str) -> None:
    weight = _named(suffix)
    (tensor,) = _hf(weight)
    half = tensor.shape[1] // 2
    assert np.array_equal(_shard(weight, 1, 2), tensor[:, half:])


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_the_shards_together_hold_every_entry_once(tp: int) -> None:
    for weight in weights(MODEL):
        shards = [_shard(weight, tp_rank, tp) for tp_rank in range(tp)]
        held = shards[:1] if weight.shard is Shard.REPLICATED else shards
        entries = np.sort(np.concatenate([shard.ravel() for shard in held]))
        wanted = np.sort(np.concatenate([tensor.ravel() for tensor in _hf(weight)]))
        assert np.array_equal(entries, wanted), weight.megatron_name


def test_a_rank_count_that_does_not_divide_is_refused() -> None:
    with pytest.raises(AssertionError, match="cannot be divided among 5"):
        pieces(_named("linear_fc1.weight"), tp_rank=0, tp=5)
