"""Estimates seconds by a roofline: operations or bytes, whichever takes longer.

Every peak comes from the device table and every share of a peak from the ``estimates`` section.
"""

from dataclasses import dataclass

from e3mega.families.geometry import ModelOptions
from e3mega.plan.counts import Sizes, active_matrix_sizes, model_sizes
from e3mega.plan.flops import forward_flops
from e3mega.plan.machines import DeviceRow
from e3mega.plan.memory import bytes_per_value, kv_bytes_per_token
from e3mega.plan.topology import num_learner_ranks
from e3mega.spec.schema.estimates import EstimateOptions
from e3mega.spec.schema.layout import Device, GenerationLayout, LearnerLayout, Recompute


@dataclass(frozen=True, slots=True)
class Machine:
    """A device with the shares of its peaks that are reached, and how many share a machine."""

    row: DeviceRow
    estimates: EstimateOptions
    devices_per_node: int

    def link_bytes_per_s(self, num_devices: int) -> float:
        """Bytes a second between this many devices: the network's where they leave a machine."""
        is_inside = num_devices <= self.devices_per_node
        peak = self.row.node_link_bytes_per_s if is_inside else self.row.network_bytes_per_s
        return peak * self.estimates.link_frac


@dataclass(frozen=True, slots=True)
class Load:
    """Sequences of mean lengths. Example: ``Load(256, 7, 32.0, 64)``."""

    num_sequences: int
    prompt_tokens: int
    completion_tokens: float
    longest_tokens: int
    """The budget."""

    @property
    def slowest_tokens(self) -> float:
        """Expected tokens of the longest of all completions.

        Lengths are taken as even between 0 and twice the mean, cut at the budget: of n such
        lengths the longest is expected at ``2 mean n / (n + 1)``.
        """
        n = self.num_sequences
        return min(self.longest_tokens, 2 * self.completion_tokens * n / (n + 1))


def passes_per_step(layout: LearnerLayout, *, num_scoring: int) -> int:
    """Forward passes' worth of operations that a step's tokens take.

    One forward and two for the backward pass; one more where every layer is computed again; and
    the passes that only score, see ``plan.estimate.num_scoring_passes``.
    """
    return 3 + (layout.recompute is Recompute.FULL) + num_scoring


def learning_seconds(
    model: ModelOptions,
    layout: LearnerLayout,
    machine: Machine,
    *,
    step_flops: float,
    bins_per_rank: int,
) -> float:
    """Seconds of one optimizer step.

    ``flops / (ranks * peak * share)`` times the pipeline's bubble,
    ``1 + (pp - 1) / (bins * chunks)``, plus the reduction of fp32 gradients and the gathering of
    updated weights among the ranks that share parameters, unless they overlap with the passes.
    """
    num_ranks = num_learner_ranks(layout)
    threads = layout.threads_per_rank if layout.device is Device.CPU else 1
    rate = num_ranks * threads * machine.row.peak_flops * machine.estimates.learner_frac
    bubble = 1 + (layout.pp - 1) / (bins_per_rank * layout.chunks_per_stage)
    copies = layout.dp * layout.cp
    per_rank = model_sizes(model).total / (num_ranks / copies)
    moved = (0 if layout.overlap_grad_reduce else 4) + (
        0 if layout.overlap_param_gather else bytes_per_value(model.precision)
    )
    exchanged = per_rank * moved * (copies - 1) / copies
    return step_flops / rate * bubble + exchanged / machine.link_bytes_per_s(num_ranks)


def concurrent_sequences(load: Load, *, max_num_seqs: int, kv_cache_tokens: int) -> int:
    """Sequences that a server decodes at once: those that are there, allowed, and in its cache."""
    length = load.prompt_tokens + load.completion_tokens
    return max(1, min(load.num_sequences, max_num_seqs, int(kv_cache_tokens / length)))


def generation_seconds(
    model: ModelOptions,
    layout: GenerationLayout,
    machine: Machine,
    load: Load,
    *,
    num_concurrent: int,
) -> float:
    """Seconds in which one server generates its sequences.

    It takes ``max(longest, sequences * mean / concurrent)`` decoding steps, each with a fixed cost;
    every step reads the weights that its tokens meet, every token its own keys and values. Prompts
    are prefilled at the rate of matrix products.
    """
    scale = layout.threads_per_replica if layout.device is Device.CPU else layout.tp
    flops = scale * machine.row.peak_flops * machine.estimates.prefill_frac
    bandwidth = scale * machine.row.memory_bytes_per_s * machine.estimates.memory_frac
    num_tokens = load.num_sequences * load.completion_tokens
    num_steps = max(load.slowest_tokens, num_tokens / num_concurrent)
    context = load.prompt_tokens + load.completion_tokens / 2
    read = num_steps * _bytes_read(model, num_concurrent)
    read += num_tokens * context * kv_bytes_per_token(model)
    computed = num_tokens * 2 * active_matrix_sizes(model)
    prefill = load.num_sequences * forward_flops(model, load.prompt_tokens)
    fixed = num_steps * machine.row.decode_step_s * machine.estimates.overhead_factor
    return max(read / bandwidth, computed / flops) + prefill / flops + fixed


def _bytes_read(model: ModelOptions, num_concurrent: int) -> float:
    """Bytes of weights that one decoding step reads: of the experts those that any token meets,
    ``1 - (1 - k / E)^tokens`` of them if they are picked evenly."""
    sizes: Sizes = model_sizes(model)
    met = 0.0
    if model.experts is not None:
        share = model.experts.experts_per_token / model.experts.num_experts
        met = 1 - (1 - share) ** num_concurrent
    return (sizes.shared + met * sizes.experts) * bytes_per_value(model.precision)


def sync_seconds(sync_bytes: int, machine: Machine, num_devices: int) -> float:
    """Seconds of one weight sync: every parameter over one link, and a fixed cost."""
    return machine.row.sync_s + sync_bytes / machine.link_bytes_per_s(num_devices)
