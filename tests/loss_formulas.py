"""The named losses, each derived a second time from its formula, in float64 and token by token."""

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, exp, log, sqrt

import numpy as np

BUDGET = 12
K = 4


@dataclass(frozen=True)
class Case:
    """Rewards of groups, and log-probabilities of every token of every sample."""

    rewards: list[list[float]]
    truncated: list[list[bool]]
    logp: list[list[np.ndarray]]
    old: list[list[np.ndarray]]
    reference: list[list[np.ndarray]]
    factors: list[list[np.ndarray]]
    """What NTHR leaves of the advantage of each token."""


@dataclass
class Derived:
    """Loss and its derivative by the log-probability of each token, sample after sample."""

    loss: float
    slopes: np.ndarray


Term = Callable[[float, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From A, log pi and log pi_old of a sample: what each token adds, and its derivative."""


def random_case(seed: int, num_groups: int = 5, num_samples: int = 8) -> Case:
    """Groups of all kinds: the first all right, the second all wrong, the others mixed."""
    rng = np.random.default_rng(seed)
    rewards = rng.integers(0, 2, (num_groups, num_samples)).astype(float)
    rewards[0], rewards[1] = 1.0, 0.0
    rewards[2:, 0], rewards[2:, 1] = 1.0, 0.0
    lengths = rng.integers(1, BUDGET + 1, rewards.shape)
    lengths[2, 1] = BUDGET

    def draw(spread: float, around: list[list[np.ndarray]] | None = None) -> list[list[np.ndarray]]:
        return [
            [
                (rng.normal(-2, 0.5, n) if around is None else around[g][s])
                + rng.normal(0, spread, n)
                for s, n in enumerate(row)
            ]
            for g, row in enumerate(lengths)
        ]

    logp = draw(0.1)
    factors = [[rng.integers(0, 2, n).astype(float) for n in row] for row in lengths]
    truncated = [[bool(n == BUDGET) for n in row] for row in lengths]
    old = draw(0.3, logp)
    return Case(rewards.tolist(), truncated, logp, old, draw(0.2, logp), factors)


def ppo(low: float, high: float, dual: float | None = None) -> Term:
    def term(a: float, logp: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, slopes = [], []
        for x, y in zip(logp, old, strict=True):
            rho = exp(x - y)
            if a >= 0:
                value, moves = a * min(rho, 1 + high), rho < 1 + high
            else:
                value, moves = a * max(rho, 1 - low), rho > 1 - low
                if dual is not None and rho > dual:
                    value, moves = a * dual, False
            values.append(value)
            slopes.append(a * rho if moves else 0.0)
        return np.array(values), np.array(slopes)

    return term


def plain(a: float, logp: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return a * logp, np.full(len(logp), a)


def gspo(a: float, logp: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, s = len(logp), exp(sum(logp - old) / len(logp))
    if a >= 0:
        value, moves = a * min(s, 1 + 4e-4), s < 1 + 4e-4
    else:
        value, moves = a * max(s, 1 - 3e-4), s > 1 - 3e-4
    # The sample's term stands at each of its tokens; one token moves all of them.
    return np.full(n, value), np.full(n, a * s if moves else 0.0)


def cispo(a: float, logp: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights = np.array([min(exp(x - y), 5.0) for x, y in zip(logp, old, strict=True)])
    return weights * a * logp, weights * a


def topr(a: float, logp: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weight = 1.0 if a > 0 else min(exp(sum(logp) - sum(old)), 1.0)
    return weight * a * logp, np.full(len(logp), weight * a)


def sapo(a: float, logp: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tau = 1.0 if a > 0 else 1.05
    rho = np.exp(logp - old)
    gate = 1 / (1 + np.exp(-tau * (rho - 1)))
    return gate * (4 / tau) * a, 4 * gate * (1 - gate) * rho * a


def _over_groups(of_group: Callable[[list[float]], list[float]]) -> Callable[[Case], list]:
    return lambda case: [of_group(row) for row in case.rewards]


def _std(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _grpo(row: list[float]) -> list[float]:
    return [(r - _mean(row)) / (_std(row) + 1e-6) for r in row]


def _ngrpo(row: list[float]) -> list[float]:
    more = [*row, 1.0]
    return [(r - _mean(more)) / (_std(more) + 1e-6) for r in row]


def _passk(row: list[float]) -> list[float]:
    n, c = len(row), int(sum(row))
    rho = 1 - comb(n - c, K) / comb(n, K)
    if rho in (0.0, 1.0):
        return [0.0] * n
    sigma = sqrt(rho * (1 - rho))
    wrong = (1 - rho - comb(n - c - 1, K - 1) / comb(n - 1, K - 1)) / sigma
    return [(1 - rho) / sigma if r else wrong for r in row]


def _rloo(row: list[float]) -> list[float]:
    return [r - (sum(row) - r) / (len(row) - 1) for r in row]


def _dapo(case: Case) -> list[list[float]]:
    c = BUDGET / 5
    shaped = [
        [r + min(0.0, (BUDGET - c - len(x)) / c) for r, x in zip(row, logp, strict=True)]
        for row, logp in zip(case.rewards, case.logp, strict=True)
    ]
    return [_grpo(row) for row in shaped]


def _whitened(case: Case) -> list[list[float]]:
    tokens = [
        r
        for row, logp in zip(case.rewards, case.logp, strict=True)
        for r, x in zip(row, logp, strict=True)
        for _ in x
    ]
    deviation = sqrt(_std(tokens) ** 2 + 1e-8)
    return [[(r - _mean(tokens)) / deviation for r in row] for row in case.rewards]


@dataclass(frozen=True)
class Formula:
    """A loss: advantages, the term of a token, which samples count, and how they are averaged."""

    advantages: Callable[[Case], list[list[float]]]
    term: Term
    counts: Callable[[float], bool] = lambda a: True
    weight: Callable[[float], float] = lambda a: 1.0
    mean: str = "tokens"
    kl: float = 0.0
    is_selective: bool = False


_OUTCOME = _over_groups(lambda row: [1.0 if r else -1.0 for r in row])
_GROUP = _over_groups(_grpo)
_PPO = ppo(0.2, 0.2)
_E3 = ppo(0.2, 0.2, 3.0)

FORMULAS = {
    "grpo": Formula(_GROUP, _E3, kl=0.001),
    "grpo_mask": Formula(_GROUP, _E3, counts=lambda a: a > 0, kl=0.001),
    "negative_only": Formula(_GROUP, _E3, counts=lambda a: a < 0, kl=0.001),
    "psr": Formula(_OUTCOME, _PPO, counts=lambda a: a > 0),
    "nsr": Formula(_OUTCOME, _PPO, counts=lambda a: a < 0),
    "w_reinforce": Formula(_OUTCOME, _PPO, weight=lambda a: 0.1 if a > 0 else 1.0),
    "dr_grpo": Formula(
        _over_groups(lambda row: [r - _mean(row) for r in row]), _PPO, mean="budget"
    ),
    "dapo": Formula(_dapo, ppo(0.2, 0.28)),
    "rloo": Formula(_over_groups(_rloo), plain, mean="sums"),
    "reinforce_pp": Formula(_whitened, _PPO),
    "gspo": Formula(_GROUP, gspo, mean="samples"),
    "cispo": Formula(_GROUP, cispo),
    "sapo": Formula(_GROUP, sapo, mean="samples"),
    "ngrpo": Formula(_over_groups(_ngrpo), ppo(0.16, 0.24), counts=lambda a: a != 0),
    "topr": Formula(_OUTCOME, topr, mean="sums"),
    "asymre": Formula(
        _over_groups(lambda row: [r - (_mean(row) - 0.1) for r in row]), plain, mean="sums"
    ),
    "nthr": Formula(_GROUP, _E3, kl=0.001, is_selective=True),
    "maxrl": Formula(
        _over_groups(lambda row: [(r - _mean(row)) / (_mean(row) + 1e-6) for r in row]), _PPO
    ),
    "passk": Formula(_over_groups(_passk), _PPO),
    "intellect2": Formula(_GROUP, ppo(0.2, 0.2, 4.0)),
    "sft": Formula(_over_groups(lambda row: [1.0 for _ in row]), plain),
}


def derive(name: str, case: Case) -> Derived:
    """Loss and derivatives of a named loss on a case."""
    formula = FORMULAS[name]
    advantages = formula.advantages(case)
    picked = [
        (g, s, a)
        for g, row in enumerate(advantages)
        for s, a in enumerate(row)
        if formula.counts(a)
    ]
    total = sum(len(row) for row in advantages)
    denominator = {
        "tokens": sum(len(case.logp[g][s]) for g, s, _ in picked),
        "samples": len(picked),
        "sums": total,
        "budget": total * BUDGET,
    }[formula.mean]
    loss = 0.0
    slopes = [[np.zeros(len(x)) for x in row] for row in case.logp]
    for g, s, a in picked:
        logp, old = case.logp[g][s], case.old[g][s]
        share = 1 / (denominator * (len(logp) if formula.mean == "samples" else 1))
        value, slope = formula.term(formula.weight(a) * a, logp, old)
        if formula.is_selective and a < 0:
            value, slope = value * case.factors[g][s], slope * case.factors[g][s]
        gap = logp - case.reference[g][s]
        loss -= share * value.sum()
        loss += share * formula.kl * (np.exp(-gap) - 1 + gap).sum()
        slopes[g][s] = share * (-slope + formula.kl * (1 - np.exp(-gap)))
    return Derived(loss, np.concatenate([x for row in slopes for x in row]))


def hand_case() -> Case:
    """One right sample of two tokens and one wrong sample of one, ratios 1, 2 and 4."""
    return Case(
        rewards=[[1.0, 0.0]],
        truncated=[[False, False]],
        logp=[[np.log([0.5, 0.4]), np.log([0.8])]],
        old=[[np.log([0.5, 0.2]), np.log([0.2])]],
        reference=[[np.log([0.5, 0.4]), np.log([0.8])]],
        factors=[[np.ones(2), np.zeros(1)]],
    )


_A = 0.5 / (sqrt(0.5) + 1e-6)
"""GRPO's advantage of the right one of two: mean 1/2, sample variance 1/2."""

HAND = {
    # Tokens: A, min(2, 1.2) A; -4 A is bounded by 3: -3 A. Mean over three.
    "grpo": -(1 + 1.2 - 3) * _A / 3,
    "grpo_mask": -(1 + 1.2) * _A / 2,
    "negative_only": 3 * _A,
    "psr": -(1 + 1.2) / 2,
    "nsr": 4.0,
    "w_reinforce": -(0.1 + 0.12 - 4) / 3,
    # Two samples times the budget of 12.
    "dr_grpo": -(0.5 + 0.6 - 2) / 24,
    "dapo": -(1 + 1.28 - 4) * _A / 3,
    "rloo": -(log(0.5) + log(0.4) - log(0.8)) / 2,
    # Two tokens of reward 1 and one of 0: mean 2/3, variance (1/9 + 1/9 + 4/9) / 2 = 1/3.
    "reinforce_pp": -(1 / 3 + 1.2 / 3 - 4 * 2 / 3) / sqrt(1 / 3 + 1e-8) / 3,
    # The right sample's ratio is sqrt(1 * 2), clipped to 1.0004; the wrong one's is 4.
    "gspo": -(1.0004 - 4) * _A / 2,
    "cispo": -(log(0.5) + 2 * log(0.4) - 4 * log(0.8)) * _A / 3,
    "sapo": -((2 + 4 / (1 + exp(-1))) / 2 - 4 / 1.05 / (1 + exp(-3 * 1.05))) * _A / 2,
    # Over 1, 0 and the virtual 1: mean 2/3, sample variance 1/3.
    "ngrpo": -((1 + 1.24) / 3 - 4 * 2 / 3) / (sqrt(1 / 3) + 1e-6) / 3,
    "topr": -(log(0.5) + log(0.4) - log(0.8)) / 2,
    "asymre": -(0.6 * (log(0.5) + log(0.4)) - 0.4 * log(0.8)) / 2,
    # The wrong token's advantage is taken away.
    "nthr": -(1 + 1.2) * _A / 3,
    "maxrl": -(0.5 + 0.6 - 2) / 0.500001 / 3,
    "intellect2": -(1 + 1.2 - 4) * _A / 3,
    "sft": -(log(0.5) + log(0.4) + log(0.8)) / 3,
}
"""Losses of ``hand_case``; pass@4 needs four samples and has a case of its own."""
