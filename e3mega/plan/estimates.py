"""The records of what a plan expects: memory, times, utilisation and cost."""

from dataclasses import dataclass

from e3mega.plan.topology import GridPlace


@dataclass(frozen=True, slots=True)
class RankEstimate:
    """Bytes that one rank of the learner holds at its fullest.

    Example: ``RankEstimate(place, 1_200_000, 1_200_000, 2_400_000, 9_000_000, 65_536, 0)``.
    """

    place: GridPlace
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    sync_buffer_bytes: int
    """The largest tensor, gathered whole to be sent."""
    host_reference_bytes: int
    """In the host's memory: the reference weights of a KL term; 0 without one."""
    selection_bytes: int = 0
    """While NTHR selects tokens: the matrix of one group, and the LM head in fp32."""
    host_hidden_bytes: int = 0
    """In the host's memory: hidden states of a step's tokens, from which NTHR selects."""

    @property
    def device_bytes(self) -> int:
        """What the rank's device holds; no activations stand while tokens are selected."""
        state = self.weight_bytes + self.gradient_bytes + self.optimizer_bytes
        return state + max(self.activation_bytes, self.selection_bytes) + self.sync_buffer_bytes


@dataclass(frozen=True, slots=True)
class SegmentEstimate:
    """The learner in the stages of one grid. Example: ``SegmentEstimate(("easy",), ranks)``."""

    stages: tuple[str, ...]
    ranks: tuple[RankEstimate, ...]
    """Every rank of the grid, in the stage in which the fullest of them is fullest."""


@dataclass(frozen=True, slots=True)
class ServerEstimate:
    """Bytes that each device of a server holds.

    Example: ``ServerEstimate(2_429_184, 268_435_456, 65_536, 174_762)``.
    """

    weight_bytes: int
    kv_cache_bytes: int
    sync_buffer_bytes: int
    kv_cache_tokens: int
    """Tokens that the server's key-value cache holds."""


@dataclass(frozen=True, slots=True)
class BudgetEstimate:
    """What one stage takes at one of the budgets that it may choose; lengths are mean lengths.

    Example: see ``e3mega plan --json``.
    """

    stage: str
    budget_tokens: int
    sequence_tokens: float
    """Mean tokens of a prompt with its completion."""
    step_tokens: float
    """Tokens that a step trains on."""
    step_flops: float
    """Operations of a step's passes: training, recomputation, old and reference log-probs."""
    bins_per_rank: int
    """Packed bins of a step on each data-parallel rank."""
    concurrent_sequences: int
    """Sequences that one server decodes at once."""
    generation_s: float
    """Seconds in which the tier generates one round; 0 for a supervised stage."""
    learning_s: float
    """Seconds of one step of the learner."""
    sync_s: float
    """Seconds of one weight sync."""
    step_s: float
    """Seconds from step to step."""
    learner_busy_frac: float
    tier_busy_frac: float
    slot_busy_frac: float
    """Share of a server's slots that are decoding while a round is generated."""
    mean_lag: float
    """Expected rounds between the generating and the training version."""
    capacity_lag: float
    """The lag that the tier can hold in flight; a larger ``max_lag`` changes nothing."""
    measuring_s: float
    """Seconds of evaluation around the stage and of choosing its budget."""
    total_s: float
    """Seconds of the whole stage, if it takes all its steps."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """What a plan expects; empty in a plan that was not compiled from a spec."""

    completion_frac: float = 0.0
    """The mean length of completions that was assumed, as a share of the budget."""
    learner_device: str = ""
    """Row of the device table."""
    server_device: str = ""
    device_bytes: int = 0
    """Memory of a learner's device that may be filled; 0 where it is not known."""
    segments: tuple[SegmentEstimate, ...] = ()
    """In the order of the stages; one where all have the same grid."""
    server: ServerEstimate | None = None
    budgets: tuple[BudgetEstimate, ...] = ()
    num_devices: int = 0
    """GPUs of all jobs, or CPU threads where there are none."""
    total_s: float = 0.0
    """Seconds of all stages, each at the dearest of its budgets."""
    device_hours: float = 0.0
    """``num_devices * total_s / 3600``."""

    @property
    def ranks(self) -> tuple[RankEstimate, ...]:
        """Every rank of the grid whose fullest rank is fullest of all."""
        fullest = max(self.segments, key=lambda each: most_bytes(each.ranks))
        return fullest.ranks


def most_bytes(ranks: tuple[RankEstimate, ...]) -> int:
    """What the fullest rank's device holds."""
    return max(rank.device_bytes for rank in ranks)
