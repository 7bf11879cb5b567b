"""Theorem 5.1 of the e3 paper by numbers: when a negative gradient raises the entropy.

One step of gradient descent on log pi(a), a sampled and wrong (A = -1), changes the entropy H of a
softmax over A actions by rate T(a) to first order, with v_i = pi_i (H + log pi_i) and
T(a) = v_a - sum_b pi_b v_b (arXiv 2506.09026, App. E). With a1 the most likely action and eps the
gap to the second:

* T(a1) >= 0, so the entropy rises with probability pi(a1) at least;
* T(a1) >= (1 - pi(a1)) eps^2 / (2 pi(a1)) where pi(a1) >= eps + exp(-H): the bound that holds;
* c A eps^2 (1 - pi(a1)) with one c for all A is the bound in print (Theorem E.3). It does not
  hold: the proof uses pi(a1) >= 1 / (A + 1) where an upper bound is needed, and the largest c that
  the same distributions allow falls like 1 / A.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Shape letters: N distributions, A actions.


@dataclass(frozen=True, slots=True)
class TheoremCheck:
    """What random distributions over A actions say.

    Example: ``check(20, num_distributions=4000, seed=1).num_below_bound == 0``.
    """

    num_actions: int
    num_distributions: int
    max_first_order_error: float
    """Largest difference of (H after - H before) / rate from T, relative to the largest |T|."""
    num_falls_at_the_mode: int
    """Distributions with T(a1) < 0; the theorem says 0."""
    min_excess_probability: float
    """Least of P(T(a) > 0) - pi(a1); the theorem says at least 0."""
    num_in_regime: int
    """Distributions with pi(a1) >= eps + exp(-H), where the bounds are claimed."""
    num_below_bound: int
    """Of them, those with T(a1) below the bound that holds; it says 0."""
    printed_constant: float
    """Largest c for which the bound in print holds on all of them."""


def entropy(logits_NA: Floats) -> Floats:
    """Entropy of each softmax, nats."""
    probs_NA = _softmax(logits_NA)
    return -(probs_NA * np.log(np.maximum(probs_NA, 1e-300))).sum(axis=1)


def alignment(logits_NA: Floats) -> Floats:
    """T(a) for every action of each distribution, (N, A)."""
    probs_NA = _softmax(logits_NA)
    surprise_NA = np.log(np.maximum(probs_NA, 1e-300)) + entropy(logits_NA)[:, None]
    v_NA = probs_NA * surprise_NA
    return v_NA - (probs_NA * v_NA).sum(axis=1, keepdims=True)


def step_down(logits_NA: Floats, action_N: NDArray[np.int64], rate: float) -> Floats:
    """The logits after one step that lowers the log-probability of an action."""
    moved_NA = logits_NA + rate * _softmax(logits_NA)
    moved_NA[np.arange(len(logits_NA)), action_N] -= rate
    return moved_NA


def check(num_actions: int, *, num_distributions: int, seed: int) -> TheoremCheck:
    """Hold the theorem against softmaxes of normal logits of many spreads."""
    rng = np.random.default_rng(seed)
    spread_N1 = rng.uniform(0.05, 4.0, (num_distributions, 1))
    logits_NA = rng.normal(size=(num_distributions, num_actions)) * spread_N1
    probs_NA, t_NA = _softmax(logits_NA), alignment(logits_NA)
    # T(a1) is a difference of numbers of size 1; below this it is rounding.
    noise = 1e-14
    mode_N = probs_NA.argmax(axis=1)
    rows_N = np.arange(num_distributions)
    top_N, t_top_N = probs_NA[rows_N, mode_N], t_NA[rows_N, mode_N]
    rises_N = (probs_NA * (t_NA > 0)).sum(axis=1)
    gap_N = top_N - np.sort(probs_NA, axis=1)[:, -2]
    in_regime_N = top_N >= gap_N + np.exp(-entropy(logits_NA))
    bound_N = (1 - top_N) * gap_N**2 / (2 * top_N)
    printed_N = num_actions * gap_N**2 * (1 - top_N)
    usable_N = in_regime_N & (printed_N > 1e-12)
    return TheoremCheck(
        num_actions=num_actions,
        num_distributions=num_distributions,
        max_first_order_error=_first_order_error(logits_NA, t_NA, probs_NA, rng),
        num_falls_at_the_mode=int((t_top_N < -noise).sum()),
        min_excess_probability=float((rises_N - top_N)[t_top_N > noise].min()),
        num_in_regime=int(in_regime_N.sum()),
        num_below_bound=int((t_top_N < bound_N - noise)[in_regime_N].sum()),
        printed_constant=float((t_top_N / np.maximum(printed_N, 1e-300))[usable_N].min()),
    )


def _first_order_error(
    logits_NA: Floats, t_NA: Floats, probs_NA: Floats, rng: np.random.Generator
) -> float:
    rate = 1e-5
    drawn_N1 = rng.random((len(logits_NA), 1))
    action_N = np.minimum((probs_NA.cumsum(axis=1) < drawn_N1).sum(axis=1), t_NA.shape[1] - 1)
    change_N = (entropy(step_down(logits_NA, action_N, rate)) - entropy(logits_NA)) / rate
    wanted_N = t_NA[np.arange(len(t_NA)), action_N]
    return float(np.abs(change_N - wanted_N).max() / np.abs(wanted_N).max())


def _softmax(logits_NA: Floats) -> Floats:
    weights_NA = np.exp(logits_NA - logits_NA.max(axis=1, keepdims=True))
    return weights_NA / weights_NA.sum(axis=1, keepdims=True)
