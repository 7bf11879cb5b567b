"""Options that all tasks of plain text share: where problems and traces come from, and limits."""

from e3mega.options import Options, Positive, PositiveFloat, Sha256, TokenCount


class GradingOptions(Options):
    """Limits of the worker processes that grade answers, and how many there are."""

    num_workers: Positive = 2
    """Worker processes."""
    time_limit_s: PositiveFloat = 5.0
    """Longest that one answer may take; then its worker is killed and it earns nothing."""
    memory_limit_bytes: Positive = 2_147_483_648
    """Most memory that a worker may map."""


class TextOptions(Options):
    """What every task of plain text has; the model's own tokenizer reads and writes it."""

    max_prompt_tokens: TokenCount = 256
    """Problems with a longer prompt are left out."""
    max_trace_tokens: TokenCount = 512
    """Supervised traces with a longer completion are left out."""
    uses_chat_template: bool = False
    """Whether the prompt is a user's turn in the chat template of the model's tokenizer."""
    problems: str | None = None
    """File of graded problems as ``e3mega grade`` writes it, in place of the task's own; null for
    the task's own."""
    problems_sha256: Sha256 | None = None
    """Checksum that the file of graded problems must have; null accepts any."""
    traces: str | None = None
    """Parquet or JSON-lines file of recorded completions to train on; null for the task's own."""
    traces_sha256: Sha256 | None = None
    """Checksum that the file of completions must have; null accepts any."""
    trace_verdict_weight: PositiveFloat = 1.0
    """Loss weight of a verdict's token in supervised traces; others weigh 1."""
