"""The ``generation`` section: sampling and the servers' start and deadlines."""

from enum import Enum

from pydantic import Field

from e3mega.options import Options, Positive, PositiveFloat


class ServerStart(Enum):
    """How a vLLM server is started."""

    FAST = "fast"
    """Engine and worker are forked from one warm process; falls back to stock if that fails."""
    STOCK = "stock"
    """As vLLM does it."""


class GenerationOptions(Options):
    """Sampling and the servers' start and deadlines."""

    temperature: PositiveFloat = 1.0
    """Sampling temperature; the learner's log-probabilities use the same."""
    max_num_seqs: Positive = 256
    """Sequences that a server decodes at once."""
    server_start: ServerStart = ServerStart.FAST
    """How a vLLM server is started."""
    start_deadline_s: PositiveFloat = 300.0
    """Longest wait for a server to answer."""
    request_deadline_s: PositiveFloat = 300.0
    """Longest wait for one request."""
    sync_deadline_s: PositiveFloat = 60.0
    """Longest wait for one weight sync."""
    server_args: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Further arguments of vLLM's server, by their long names with underscores."""
