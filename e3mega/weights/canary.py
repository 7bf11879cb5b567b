"""The canary: fixed tokens scored by the learner and by a server after every weight sync."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e3mega.errors import SyncError

MAX_ABS_DIFF = 1e-3
"""Both sides' log-probabilities may differ by this, in nats (fp32)."""
MAX_CHANGE_FLOOR = 5e-5
"""Rounding of two fp32 implementations, in nats: what a change may differ by at no change."""
MAX_CHANGE_FRAC = 0.1
"""Share of the largest change that a token's changes on the two sides may differ by."""


@dataclass(frozen=True, slots=True)
class CanaryPair:
    """Log-probabilities of the canary's tokens on both sides at one version, in nats, (T,)."""

    learner: NDArray[np.floating]
    server: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """What was compared. Example: ``CanaryResult(512, 2e-6, 0.1, 3e-6)``."""

    num_tokens: int
    max_abs_diff: float
    """Largest difference between the sides at this version."""
    max_abs_change: float
    """Largest change of the learner's log-probabilities since the last version; 0 at the first."""
    max_abs_change_diff: float
    """Largest difference between the sides' changes; 0 at the first."""


def canary_sequences(
    *, vocab_size: int, seed: int, num_tokens: int, max_sequence_tokens: int
) -> tuple[tuple[int, ...], ...]:
    """Random token sequences, the same for the whole run, with ``num_tokens`` scored in all.

    The first token of a sequence is not scored, so each sequence has one token more than it
    scores.
    """
    rng = np.random.default_rng([seed, 0xCA])
    per_sequence = min(63, max_sequence_tokens - 1)
    num_sequences = -(-num_tokens // per_sequence)
    tokens = rng.integers(0, vocab_size, size=(num_sequences, per_sequence + 1))
    return tuple(tuple(int(token) for token in row) for row in tokens)


def check_finite(learner: NDArray[np.floating], *, version: int) -> None:
    """Raise SyncError with the token when the learner itself scores one with no number.

    Asked for it before any server is: those write no such number and would be given up.
    """
    wrong = np.flatnonzero(~np.isfinite(learner))
    if wrong.size:
        raise SyncError(
            f"version {version}: the learner scores canary token {wrong[0]} with "
            f"{learner[wrong[0]]:g} ({wrong.size} of {learner.size} tokens); its weights are of no "
            "use; the newest checkpoint is from before"
        )


def compare(
    pair: CanaryPair, previous: CanaryPair | None, *, version: int, server: str
) -> CanaryResult:
    """Compare both sides; raises SyncError naming the server and the token that disagrees.

    Log-probabilities agree within MAX_ABS_DIFF. Changes since the last version agree within
    MAX_CHANGE_FLOOR + MAX_CHANGE_FRAC x the largest change on either side, so that a server which
    still serves the version before is found even after one small step.
    """
    if pair.learner.shape != pair.server.shape:
        raise SyncError(
            f"{server}: version {version}: {pair.server.size} canary tokens were scored, "
            f"the learner scored {pair.learner.size}"
        )
    diff = _abs(pair.learner, pair.server)
    _check(diff, MAX_ABS_DIFF, pair, what="log-probabilities", where=f"{server}: version {version}")
    if previous is None:
        return CanaryResult(diff.size, float(diff.max()), 0.0, 0.0)
    learner_change = pair.learner.astype(np.float64) - previous.learner
    server_change = pair.server.astype(np.float64) - previous.server
    largest = max(float(np.abs(learner_change).max()), float(np.abs(server_change).max()))
    change_diff = _abs(learner_change, server_change)
    _check(
        change_diff,
        MAX_CHANGE_FLOOR + MAX_CHANGE_FRAC * largest,
        CanaryPair(learner_change, server_change),
        what="changes since the last version",
        where=f"{server}: version {version}",
    )
    return CanaryResult(
        diff.size,
        float(diff.max()),
        float(np.abs(learner_change).max()),
        float(change_diff.max()),
    )


def _abs(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.abs(left.astype(np.float64) - right.astype(np.float64))


def _check(
    diff: NDArray[np.float64], allowed: float, pair: CanaryPair, *, what: str, where: str
) -> None:
    # "not <=" so that a NaN on either side is a disagreement.
    wrong = np.flatnonzero(~(diff <= allowed))
    if wrong.size == 0:
        return
    worst = int(wrong[np.argmax(np.nan_to_num(diff[wrong], nan=np.inf))])
    raise SyncError(
        f"{where}: canary token {worst}: {what} disagree: learner {pair.learner[worst]:.6g}, "
        f"server {pair.server[worst]:.6g}, difference {diff[worst]:.3g}, allowed {allowed:.3g} "
        f"({wrong.size} of {diff.size} tokens); the server does not serve the learner's weights"
    )
