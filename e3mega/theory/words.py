"""What the theory checks found, in words."""

from collections.abc import Iterator

from e3mega.theory.bigram import BigramCurves, BigramSettings
from e3mega.theory.entropy_theorem import TheoremCheck
from e3mega.theory.guessing import failure_rate, simulated_failure_rate


def guessing_lines(seed: int) -> Iterator[str]:
    """The p^k model against playing it."""
    yield "p^k: k guesses, each wrong with probability p, checked perfectly"
    for p, k in ((0.5, 4), (0.8, 8), (0.9, 16)):
        share, error = simulated_failure_rate(p, k, num_traces=20_000, seed=seed)
        wanted = failure_rate(p, k)
        yield f"  p {p}, k {k:2d}: fails {wanted:.4f}, played {share:.4f} +- {error:.4f}"


def bigram_lines(negative: BigramCurves, masked: BigramCurves) -> Iterator[str]:
    """The bigram world at its start, its longest and its end."""
    text = BigramSettings()
    yield (
        f"bigram world: {text.num_actions} actions, Adam at {text.learning_rate:g}, one trace an "
        "update, each trace's loss over its length"
    )
    yield "  (the paper's text has 100 actions and plain descent, which do not give its Fig. 7)"
    for name, curves in (("with negative gradients", negative), ("without", masked)):
        longest = int(curves.length[1:].argmax()) + 1
        yield (
            f"  {name}: reward {curves.reward[1]:.2f} to {curves.reward[-1]:.2f}; length "
            f"{curves.length[1]:.0f}, at most {curves.length[longest]:.0f} (update "
            f"{curves.updates[longest]}), at the end {curves.length[-1]:.0f}; stop "
            f"{curves.stop[0]:.3f} to {curves.stop[-1]:.3f}; entropy {curves.entropy[0]:.2f}, at "
            f"most {curves.entropy.max():.2f}, at the end {curves.entropy[-1]:.2f}"
        )


def theorem_lines(checks: tuple[TheoremCheck, ...]) -> Iterator[str]:
    """Theorem 5.1 on random distributions."""
    yield "Theorem 5.1: a negative step raises the entropy with probability pi(a1) at least"
    for check in checks:
        yield (
            f"  {check.num_actions:4d} actions, {check.num_distributions} distributions: first "
            f"order right to {check.max_first_order_error:.0e}; entropy falls at the mode "
            f"{check.num_falls_at_the_mode} times, P(it rises) - pi1 at least "
            f"{check.min_excess_probability:.2g}; T below (1 - pi1) eps^2 / (2 pi1) "
            f"{check.num_below_bound} times of {check.num_in_regime}; largest c of the bound in "
            f"print {check.printed_constant:.2g}"
        )
    first, last = checks[0], checks[-1]
    yield (
        f"  the bound in print, c A eps^2 (1 - pi1), would need one c: from {first.num_actions} to "
        f"{last.num_actions} actions it falls {first.printed_constant / last.printed_constant:.0f}"
        " fold, so the factor A is not there"
    )
