"""The bigram world of the e3 paper: guessing until the right action, with and without penalties.

Sec. 5 and App. C.3 of arXiv 2506.09026. A state is the action before; a trace starts at a random
wrong action and ends with the right one (reward 1), with stop (reward 0), or after 100 tokens.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Shape letters: S states, A actions; action 0 is the right one, the last one stops.

RIGHT = 0


@dataclass(frozen=True, slots=True)
class BigramSettings:
    """What the paper's text says, and where a figure like its Fig. 7 needs something else.

    The text has 100 actions and stochastic gradient descent at 1e-2. With 100 actions the figure's
    first point (probability of stopping .079, entropy 4.42) is not met (.145, 3.66), with 200 it
    is (.077, 4.42); with plain descent nothing moves in 4400 updates, with Adam the curves appear.
    At a rate of 7e-3 the jump falls where the figure has it.
    """

    num_actions: int = 200
    """Besides stop."""
    max_tokens: int = 100
    learning_rate: float = 7e-3
    num_updates: int = 4400
    """One random trace each."""
    log_every: int = 100
    has_negative_gradients: bool = True
    """Off: a wrong action has advantage 0 for -1."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class BigramCurves:
    """Means over the updates since the point before; probabilities over uniform states."""

    updates: NDArray[np.int64]
    reward: Floats
    length: Floats
    stop: Floats
    """Probability of stopping."""
    right: Floats
    """Probability of the right action."""
    entropy: Floats
    """Nats."""


class Adam:
    """Adam over a table, beta 0.9 and 0.999."""

    def __init__(self, shape: tuple[int, int], learning_rate: float) -> None:
        self._first, self._second = np.zeros(shape), np.zeros(shape)
        self._rate = learning_rate
        self._step = 0

    def descend(self, table: Floats, gradient: Floats) -> None:
        """Move the table against its gradient, in place."""
        self._step += 1
        self._first += 0.1 * (gradient - self._first)
        self._second += 0.001 * (gradient**2 - self._second)
        bias = np.sqrt(1 - 0.999**self._step) / (1 - 0.9**self._step)
        table -= self._rate * bias * self._first / (np.sqrt(self._second) + 1e-8)


def simulate(settings: BigramSettings) -> BigramCurves:
    """Train the table on one trace an update; the same settings give the same curves."""
    rng = np.random.default_rng(settings.seed)
    num_actions = settings.num_actions
    stop = num_actions
    table_SA = rng.uniform(-3.0, 3.0, (num_actions, num_actions + 1))
    table_SA[:, stop], table_SA[:, RIGHT] = 4.0, -4.0
    adam = Adam(table_SA.shape, settings.learning_rate)
    rows: list[tuple[float, ...]] = []
    rewards: list[float] = []
    lengths: list[int] = []
    for update in range(settings.num_updates + 1):
        if update % settings.log_every == 0:
            rows.append((update, *_means(rewards, lengths), *_policy(table_SA)))
            rewards, lengths = [], []
        probs_SA = _softmax(table_SA)
        states, actions = _trace(probs_SA, settings.max_tokens, rng)
        rewards.append(float(actions[-1] == RIGHT))
        lengths.append(len(actions))
        gradient_SA = _gradient(probs_SA, states, actions, settings)
        adam.descend(table_SA, gradient_SA)
    columns = np.array(rows).T
    return BigramCurves(columns[0].astype(np.int64), *columns[1:])


def _trace(
    probs_SA: Floats, max_tokens: int, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """States and the actions taken in them."""
    num_actions = len(probs_SA)
    state = int(rng.integers(1, num_actions))
    totals_SA: dict[int, Floats] = {}
    states: list[int] = []
    actions: list[int] = []
    for draw in rng.random(max_tokens):
        if state not in totals_SA:
            totals_SA[state] = probs_SA[state].cumsum()
        total_A = totals_SA[state]
        action = min(int(np.searchsorted(total_A, draw * total_A[-1], side="right")), num_actions)
        states.append(state)
        actions.append(action)
        if action in (RIGHT, num_actions):
            break
        state = action
    return states, actions


def _gradient(
    probs_SA: Floats, states: list[int], actions: list[int], settings: BigramSettings
) -> Floats:
    """Of -(1 / length) sum A log pi, with A 1 for the right action and -1 or 0 for another."""
    wrong = -1.0 if settings.has_negative_gradients else 0.0
    gradient_SA = np.zeros_like(probs_SA)
    for state, action in zip(states, actions, strict=True):
        scale = (1.0 if action == RIGHT else wrong) / len(actions)
        gradient_SA[state] += scale * probs_SA[state]
        gradient_SA[state, action] -= scale
    return gradient_SA


def _softmax(table_SA: Floats) -> Floats:
    weights_SA = np.exp(table_SA - table_SA.max(axis=1, keepdims=True))
    return weights_SA / weights_SA.sum(axis=1, keepdims=True)


def _means(rewards: list[float], lengths: list[int]) -> tuple[float, float]:
    return (float(np.mean(rewards)), float(np.mean(lengths))) if rewards else (np.nan, np.nan)


def _policy(table_SA: Floats) -> tuple[float, float, float]:
    """Stop, right action and entropy, over the states that a trace can go on from."""
    probs_SA = _softmax(table_SA)[1:]
    entropy_S = -(probs_SA * np.log(probs_SA)).sum(axis=1)
    return float(probs_SA[:, -1].mean()), float(probs_SA[:, RIGHT].mean()), float(entropy_S.mean())
