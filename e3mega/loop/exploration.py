"""What the groups of a step tell of exploration: length, attempts, stopping and repetition."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from e3mega.metrics import Json
from e3mega.rollout.records import FinishReason, Group, Rollout
from e3mega.tasks.interface import Failure

_MIN_REPEATS, _MAX_PERIOD = 4, 24


def group_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means over a step's rollouts; those over no rollout, or no failed check, are NaN.

    ``stop_after_failed_check``, the probability of stopping after a failed check: of the attempts
    that traces call misses, the share behind which the model ended the trace without another one;
    a truncated trace did not stop, and an attempt of which a trace says nothing is no check. The
    mean is over checks, so long traces count more than short ones. ``repetition_frac``: rollouts
    that end in a cycle of tokens. ``unique_attempts_*``: different attempts within a rollout.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    correct = [rollout for rollout in rollouts if rollout.marks.reward > 0]
    incorrect = [rollout for rollout in rollouts if rollout.marks.reward <= 0]
    is_cut = [r.completion.finish_reason is FinishReason.LENGTH for r in rollouts]
    return {
        "reward_mean": _mean([rollout.marks.reward for rollout in rollouts]),
        "num_rollouts": len(rollouts),
        "tokens_generated": sum(len(rollout.completion.token_ids) for rollout in rollouts),
        "truncated_frac": _mean(is_cut),
        "length_correct": _mean([len(r.completion.token_ids) for r in correct]),
        "length_incorrect": _mean([len(r.completion.token_ids) for r in incorrect]),
        "attempts_mean": _mean([r.marks.num_attempts for r in rollouts]),
        "attempts_correct": _mean([r.marks.num_attempts for r in correct]),
        "attempts_incorrect": _mean([r.marks.num_attempts for r in incorrect]),
        "unique_attempts_correct": _mean([r.marks.num_unique_attempts for r in correct]),
        "unique_attempts_incorrect": _mean([r.marks.num_unique_attempts for r in incorrect]),
        "stop_after_failed_check": _stop_share(rollouts),
        "repetition_frac": _mean([ends_in_a_cycle(r.completion.token_ids) for r in rollouts]),
        "false_hits": _mean([rollout.marks.num_false_hits > 0 for rollout in rollouts]),
        "mixed_groups_frac": _mean(
            [len({r.marks.reward for r in group.rollouts}) > 1 for group in groups]
        ),
    }


def failure_counts(groups: Sequence[Group]) -> dict[str, Json]:
    """Rollouts that could not be graded, by reason; they earned nothing."""
    failures = (rollout.marks.failure for group in groups for rollout in group.rollouts)
    return dict(sorted(Counter(f.value for f in failures if f is not Failure.NONE).items()))


def ends_in_a_cycle(token_ids: Sequence[int]) -> bool:
    """Whether the last tokens are at least four copies of at most 24 tokens.

    Example: ``ends_in_a_cycle((9, 1, 2, 1, 2, 1, 2, 1, 2))``.
    """
    for period in range(1, min(_MAX_PERIOD, len(token_ids) // _MIN_REPEATS) + 1):
        tail = token_ids[-period * _MIN_REPEATS :]
        if tail[period:] == tail[:-period]:
            return True
    return False


def _stop_share(rollouts: Sequence[Rollout]) -> float:
    num_failed = sum(rollout.marks.num_failed_checks for rollout in rollouts)
    num_stops = sum(rollout.marks.ends_at_failed_check for rollout in rollouts)
    return num_stops / num_failed if num_failed else float("nan")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
