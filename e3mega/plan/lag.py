"""How busy the tier is and how stale its rollouts are for a chosen lag.

The law is that of Megatron-LM's reinforcement learning (``megatron/rl/README.md``): with
``tau = E[slowest of a unit] / E[one]``, of the unit that is submitted and of the one that is
consumed, utilisation is ``1 / tau_submit``, the mean staleness
``tau_consume / tau_submit * (1 + lag)``, and the lag that fits in flight
``replicas * slots / (samples * prompts) - 1``.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LagEstimate:
    """What a lag leads to. Example: ``LagEstimate(0.5, 0.0, 1.0)``."""

    slot_busy_frac: float
    mean_lag: float
    capacity_lag: float


def lag_estimate(
    *,
    max_lag: int,
    group_slowness: float,
    round_slowness: float,
    num_slots: int,
    round_sequences: int,
) -> LagEstimate:
    """Slownesses are ``tau`` of a group and of a whole round.

    Without lag a round is submitted and consumed as one unit, and nothing is stale. With lag the
    tier admits group by group and a round is consumed when its last group is there. The law counts
    the round that is being trained as well, so 1 is taken off; the loop never lets a batch be
    older than ``max_lag``.
    """
    submitted = group_slowness if max_lag else round_slowness
    stale = round_slowness / submitted * (1 + max_lag) - 1
    return LagEstimate(
        slot_busy_frac=1 / submitted,
        mean_lag=min(float(max_lag), stale) if max_lag else 0.0,
        capacity_lag=max(0.0, num_slots / round_sequences - 1),
    )


def slowness(num_sequences: int, *, mean_tokens: float, longest_tokens: int) -> float:
    """``E[slowest] / E[one]`` of completions whose lengths are even between 0 and twice the mean,
    cut at the budget; at least 1."""
    slowest = min(longest_tokens, 2 * mean_tokens * num_sequences / (num_sequences + 1))
    return max(1.0, slowest / mean_tokens)
