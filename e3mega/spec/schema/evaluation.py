"""The ``evaluation`` section: what is measured on held-out problems, and when."""

from e3mega.options import NonNegative, Options, Positive, TokenCount


class EvaluationOptions(Options):
    """What is measured on held-out problems before, within and after the RL stages."""

    budgets: tuple[TokenCount, ...]
    """Test budgets, ascending; accuracy at each is read off the same generations."""
    num_problems: Positive = 512
    """Held-out problems, the same ones every time, of both halves."""
    samples_per_problem: Positive = 1
    """Generations of each problem."""
    every_steps: Positive | None = None
    """Optimizer steps between measurements within an RL stage, on the same problems; null for
    none."""
    pass_k: tuple[Positive, ...] = (1, 2, 4, 8)
    """The k of pass@k, measured for the base and the end."""
    pass_num_problems: NonNegative = 128
    """Problems of the pass@k measurement; 0 for none."""
    pass_samples: Positive = 8
    """Generations of each problem for pass@k."""
    pass_budget_tokens: TokenCount
    """Test budget of the pass@k measurement."""
