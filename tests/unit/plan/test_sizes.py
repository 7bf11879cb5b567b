"""Parameters, bytes and operations equal what is counted by hand for every rank grid."""

import itertools

import pytest

from e3mega.families.geometry import ExpertOptions, Family, ModelOptions, Precision
from e3mega.plan.flops import forward_flops
from e3mega.plan.memory import (
    kv_bytes_per_token,
    memory_per_rank,
    num_parameters,
    num_rank_parameters,
)
from e3mega.plan.topology import layers_of, num_expert_copies, rank_grid
from e3mega.spec.schema.layout import LearnerLayout


def model(*, ties: bool = True, precision: Precision = Precision.FLOAT32) -> ModelOptions:
    return ModelOptions(
        family=Family.QWEN3,
        num_layers=4,
        hidden_size=32,
        num_heads=8,
        num_kv_heads=4,
        head_dim=6,
        ffn_size=80,
        vocab_size=128,
        max_context_tokens=64,
        ties_embeddings=ties,
        precision=precision,
    )


EMBEDDING = 128 * 32
LAYER = 32 * 48 + 2 * 32 * 24 + 48 * 32 + 3 * 32 * 80
NORMS = 2 * 32 + 2 * 6


@pytest.mark.parametrize("ties", [True, False])
def test_parameters_of_the_whole_model(ties: bool) -> None:
    expected = EMBEDDING * (1 if ties else 2) + 4 * (LAYER + NORMS) + 32
    assert num_parameters(model(ties=ties)) == expected


def test_qwen3_1_7b_has_its_published_size() -> None:
    """The number that transformers counts for Qwen3-1.7B with its tied head."""
    options = ModelOptions(
        family=Family.QWEN3,
        num_layers=28,
        hidden_size=2048,
        num_heads=16,
        num_kv_heads=8,
        head_dim=128,
        ffn_size=6144,
        vocab_size=151936,
        max_context_tokens=40960,
    )
    assert num_parameters(options) == 1_720_574_976


@pytest.mark.parametrize(("tp", "pp", "dp"), list(itertools.product([1, 2, 4], [1, 2, 4], [1, 3])))
def test_ranks_hold_the_model_with_its_copies(tp: int, pp: int, dp: int) -> None:
    """Over all ranks: each matrix once per dp rank, norms on every tp rank too, and a tied head
    once more when it stands on another pipeline stage."""
    layout = LearnerLayout(tp=tp, pp=pp, dp=dp)
    held = [num_rank_parameters(model(), layout, place) for place in rank_grid(layout)]
    matrices = EMBEDDING * (2 if pp > 1 else 1) + 4 * LAYER
    assert sum(held) == dp * (matrices + tp * (4 * NORMS + 32))
    memory = memory_per_rank(model(), layout)
    assert [rank.weight_bytes for rank in memory] == [4 * count for count in held]
    assert all(rank.gradient_bytes == rank.weight_bytes for rank in memory)
    if dp == 1:
        assert all(rank.optimizer_bytes == 2 * rank.weight_bytes for rank in memory)


def test_bfloat16_adds_main_weights_shared_among_data_parallel_ranks() -> None:
    layout = LearnerLayout(dp=2)
    rank = memory_per_rank(model(precision=Precision.BFLOAT16), layout)[0]
    count = num_parameters(model())
    assert (rank.weight_bytes, rank.gradient_bytes) == (2 * count, 4 * count)
    assert rank.optimizer_bytes == count // 2 * 12
    assert rank.total_bytes == 6 * count + count // 2 * 12


def test_neighbours_in_the_grid_share_tensors() -> None:
    grid = rank_grid(LearnerLayout(tp=2, pp=2, dp=3))
    places = [(place.pp_rank, place.dp_rank, place.tp_rank) for place in grid]
    assert places == list(itertools.product(range(2), range(3), range(2)))
    assert [place.world_rank for place in grid] == list(range(12))


def test_pipeline_stages_divide_the_layers() -> None:
    layout = LearnerLayout(pp=3)
    held = [[list(layers) for layers in layers_of(6, layout, stage)] for stage in range(3)]
    assert held == [[[0, 1]], [[2, 3]], [[4, 5]]]


def test_interleaved_stages_take_turns_and_may_be_uneven() -> None:
    layout = LearnerLayout(pp=2, chunks_per_stage=2, layers_per_chunk=(1, 2, 3, 1))
    held = [[list(layers) for layers in layers_of(7, layout, stage)] for stage in range(2)]
    assert held == [[[0], [3, 4, 5]], [[1, 2], [6]]]


def test_experts_have_a_grid_of_their_own_within_a_stage() -> None:
    """Megatron counts the same ranks once as tp x cp x dp and once as expert tp x ep x copies."""
    grid = rank_grid(LearnerLayout(tp=2, dp=2, pp=2, ep=2))
    assert [(p.pp_rank, p.dp_rank, p.tp_rank, p.ep_rank) for p in grid] == [
        (pp, dp, tp, tp) for pp in range(2) for dp in range(2) for tp in range(2)
    ]


def test_forward_operations_are_those_of_a_loop_over_matrices() -> None:
    """2 m n p for each product of matrices; attention looks at the past and the token itself."""
    num_tokens, flops = 11, 0
    for _ in range(4):
        for rows, columns in [(48, 32), (24, 32), (24, 32), (32, 48), *[(80, 32)] * 2, (32, 80)]:
            flops += 2 * num_tokens * rows * columns
        for position in range(num_tokens):
            flops += 8 * 2 * (2 * 6 * (position + 1))
    flops += 2 * num_tokens * 128 * 32
    assert forward_flops(model(), num_tokens) == flops
    assert forward_flops(model(ties=False), num_tokens) == flops


def test_the_cache_holds_keys_and_values_of_all_layers() -> None:
    assert kv_bytes_per_token(model()) == 4 * 2 * 4 * 6 * 4


def experts_model() -> ModelOptions:
    experts = ExpertOptions(
        num_experts=8, experts_per_token=2, ffn_size=24, normalizes_gates=True, dense_layers=(1,)
    )
    return model().model_copy(update={"family": Family.QWEN3_MOE, "experts": experts})


@pytest.mark.parametrize(
    "layout", [{}, {"ep": 4, "dp": 4}, {"ep": 2, "expert_tp": 2, "tp": 2, "dp": 4}]
)
def test_every_expert_is_held_once_by_each_copy_of_the_expert_grid(layout: dict[str, int]) -> None:
    grid = LearnerLayout(**layout)
    held = [num_rank_parameters(experts_model(), grid, place) for place in rank_grid(grid)]
    router, expert = 8 * 32, 3 * 24 * 32
    dense_layer = LAYER - 3 * 32 * 80
    matrices = EMBEDDING + 4 * dense_layer + 3 * 32 * 80
    shared = matrices + grid.tp * (4 * NORMS + 32 + 3 * router)
    assert sum(held) == grid.dp * shared + num_expert_copies(grid) * 3 * 8 * expert


def test_a_token_is_multiplied_with_the_experts_it_is_given_to() -> None:
    dense = forward_flops(model(), 7)
    per_token = 3 * (8 * 32 + 2 * 3 * 24 * 32 - 3 * 32 * 80)
    assert forward_flops(experts_model(), 7) == dense + 2 * 7 * per_token


def test_padding_rows_of_the_vocabulary_are_held_too() -> None:
    options = model().model_copy(update={"vocab_size": 100})
    layout = LearnerLayout(tp=2)
    held = sum(num_rank_parameters(options, layout, place) for place in rank_grid(layout))
    assert held == EMBEDDING + 4 * LAYER + 2 * (4 * NORMS + 32)
