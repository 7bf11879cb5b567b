"""The ``rollout`` section: how many prompts and samples, and how stale they may be."""

from e3mega.options import NonNegative, Options, Positive, TokenCount


class RolloutOptions(Options):
    """Size and staleness of what a step consumes."""

    prompts_per_step: Positive = 32
    """Prompts (groups) consumed by one optimizer step; traces in a supervised stage."""
    samples_per_prompt: Positive = 8
    """Completions of each prompt; 1 in a supervised stage."""
    steps_per_round: Positive = 1
    """Optimizer steps that consume the prompts generated under one version."""
    max_lag: NonNegative = 0
    """Rounds that a batch may be older than the weights it trains; 0 is synchronous."""
    packed_tokens: TokenCount = 2048
    """Tokens of one packed bin, which is one micro-batch."""
