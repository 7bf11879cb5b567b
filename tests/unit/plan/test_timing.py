"""Times follow from operations, bytes and lengths as the formulas say."""

import pytest

from e3mega.families.geometry import Family, ModelOptions
from e3mega.plan.flops import forward_flops
from e3mega.plan.lag import lag_estimate, slowness
from e3mega.plan.machines import GB, DeviceRow, device_row, usable_bytes
from e3mega.plan.timing import (
    Load,
    Machine,
    concurrent_sequences,
    generation_seconds,
    learning_seconds,
    passes_per_step,
    sync_seconds,
)
from e3mega.spec.schema.estimates import EstimateOptions, Gpu
from e3mega.spec.schema.layout import Device, GenerationLayout, LearnerLayout, Recompute

ROW = DeviceRow("test", 1e12, 80 * GB, 1e12, 1e11, 1e10, 0.01, 0.5)
WHOLE = EstimateOptions(
    learner_frac=0.5, prefill_frac=1.0, memory_frac=1.0, link_frac=1.0, overhead_factor=1.0
)
MACHINE = Machine(ROW, WHOLE, devices_per_node=8)
MODEL = ModelOptions(
    family=Family.QWEN3,
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    ffn_size=128,
    vocab_size=1000,
    max_context_tokens=512,
)


def test_a_step_takes_its_operations_over_the_rate_reached() -> None:
    one = LearnerLayout(device=Device.GPU)
    assert learning_seconds(MODEL, one, MACHINE, step_flops=1e12, bins_per_rank=1) == 2.0
    four = LearnerLayout(device=Device.GPU, tp=4)
    assert learning_seconds(MODEL, four, MACHINE, step_flops=1e12, bins_per_rank=1) == 0.5


def test_a_pipeline_waits_to_fill_and_to_drain() -> None:
    """Of 6 slots 4 are work when 4 bins pass 3 stages; interleaving halves what is lost."""
    plain = LearnerLayout(device=Device.GPU, pp=3)
    seconds = learning_seconds(MODEL, plain, MACHINE, step_flops=3e12, bins_per_rank=4)
    assert seconds == pytest.approx(2.0 * 6 / 4)
    chunked = LearnerLayout(device=Device.GPU, pp=3, chunks_per_stage=2)
    seconds = learning_seconds(MODEL, chunked, MACHINE, step_flops=3e12, bins_per_rank=4)
    assert seconds == pytest.approx(2.0 * 5 / 4)


def test_gradients_and_weights_are_exchanged_unless_they_overlap() -> None:
    """Of fp32 gradients and fp32 weights, 8 bytes a parameter, half crosses between two ranks."""
    from e3mega.plan.memory import num_parameters

    layout = LearnerLayout(device=Device.GPU, dp=2)
    seconds = learning_seconds(MODEL, layout, MACHINE, step_flops=0.0, bins_per_rank=1)
    assert seconds == pytest.approx(num_parameters(MODEL) * 8 / 2 / 1e11)
    hidden = layout.model_copy(update={"overlap_grad_reduce": True, "overlap_param_gather": True})
    assert learning_seconds(MODEL, hidden, MACHINE, step_flops=0.0, bins_per_rank=1) == 0


def test_recomputation_and_log_probs_are_passes_of_their_own() -> None:
    plain, full = LearnerLayout(), LearnerLayout(recompute=Recompute.FULL)
    assert passes_per_step(plain, num_scoring=0) == 3
    assert passes_per_step(full, num_scoring=2) == 6


def test_a_server_decodes_what_its_cache_holds() -> None:
    load = Load(100, prompt_tokens=10, completion_tokens=30, longest_tokens=60)
    assert concurrent_sequences(load, max_num_seqs=256, kv_cache_tokens=10_000) == 100
    assert concurrent_sequences(load, max_num_seqs=64, kv_cache_tokens=10_000) == 64
    assert concurrent_sequences(load, max_num_seqs=64, kv_cache_tokens=400) == 10
    assert concurrent_sequences(load, max_num_seqs=64, kv_cache_tokens=3) == 1


def test_generation_is_bound_by_its_longest_completion_or_by_its_slots() -> None:
    """With nothing but the fixed cost of 10 ms a decoding step."""
    free = Machine(DeviceRow("f", 1e30, 1, 1e30, 1e30, 1e30, 0.01, 0.5), WHOLE, 8)
    layout = GenerationLayout(device=Device.GPU)

    def seconds(load: Load, num_concurrent: int) -> float:
        return generation_seconds(MODEL, layout, free, load, num_concurrent=num_concurrent)

    # Of 99 lengths even between 0 and 60 the longest is expected at 60 * 99 / 100.
    assert seconds(Load(99, 10, 30, 60), 99) == pytest.approx(0.01 * 59.4)
    assert seconds(Load(99, 10, 30, 40), 99) == pytest.approx(0.01 * 40)
    assert seconds(Load(99, 10, 30, 60), 11) == pytest.approx(0.01 * 9 * 30)


def test_generation_is_a_roofline_of_reading_and_computing() -> None:
    layout = GenerationLayout(device=Device.GPU, tp=2)
    load = Load(1, prompt_tokens=100, completion_tokens=50.0, longest_tokens=50)
    no_cost = WHOLE.model_copy(update={"overhead_factor": 1e-12})
    slow_memory = Machine(DeviceRow("m", 1e30, 1, 1e6, 1, 1, 0.01, 0), no_cost, 8)
    parameters = 1000 * 64 + 2 * (64 * 64 * 2 + 2 * 32 * 64 + 3 * 64 * 128 + 2 * 64 + 2 * 16) + 64
    read = 50 * parameters * 4 + 50 * (100 + 25) * (2 * 2 * 2 * 16 * 4)
    seconds = generation_seconds(MODEL, layout, slow_memory, load, num_concurrent=1)
    assert seconds == pytest.approx(read / 2e6, rel=1e-6)
    slow_product = Machine(DeviceRow("p", 1e6, 1, 1e30, 1, 1, 0.01, 0), no_cost, 8)
    matrices = 1000 * 64 + 2 * (64 * 64 * 2 + 2 * 32 * 64 + 3 * 64 * 128)
    computed = 50 * 2 * matrices + forward_flops(MODEL, 100)
    seconds = generation_seconds(MODEL, layout, slow_product, load, num_concurrent=1)
    assert seconds == pytest.approx(computed / 2e6, rel=1e-6)


def test_a_sync_takes_the_network_when_it_leaves_the_machine() -> None:
    assert sync_seconds(10 * GB, MACHINE, num_devices=8) == pytest.approx(0.5 + 0.1)
    assert sync_seconds(10 * GB, MACHINE, num_devices=9) == pytest.approx(0.5 + 1.0)


def test_without_lag_nothing_is_stale_and_slots_wait_for_the_slowest() -> None:
    found = lag_estimate(
        max_lag=0, group_slowness=1.5, round_slowness=2.0, num_slots=256, round_sequences=256
    )
    assert (found.slot_busy_frac, found.mean_lag, found.capacity_lag) == (0.5, 0.0, 0.0)


@pytest.mark.parametrize(("max_lag", "mean_lag"), [(1, 1.0), (4, 4.0)])
def test_lag_fills_slots_and_makes_rollouts_stale(max_lag: int, mean_lag: float) -> None:
    """2.0 / 1.6 * (1 + lag) - 1 is 1.5 and 5.25; the loop lets no batch be older than the lag."""
    found = lag_estimate(
        max_lag=max_lag, group_slowness=1.6, round_slowness=2.0, num_slots=768, round_sequences=256
    )
    assert found.slot_busy_frac == pytest.approx(1 / 1.6)
    assert found.mean_lag == mean_lag
    assert found.capacity_lag == 2.0


def test_slowness_is_the_longest_over_the_mean() -> None:
    assert slowness(1, mean_tokens=10, longest_tokens=100) == 1.0
    assert slowness(3, mean_tokens=10, longest_tokens=100) == 1.5
    assert slowness(10**6, mean_tokens=10, longest_tokens=16) == 1.6


@pytest.mark.parametrize("gpu", list(Gpu))
def test_every_gpu_has_a_row(gpu: Gpu) -> None:
    estimates = EstimateOptions(gpu=gpu, reserved_frac=0.1)
    row = device_row(Device.GPU, estimates)
    assert row.name == gpu.value
    assert usable_bytes(row, estimates) == pytest.approx(0.9 * row.memory_bytes)
    assert row.node_link_bytes_per_s > row.network_bytes_per_s
    assert device_row(Device.CPU, estimates).memory_bytes == 0
