"""Shows how far the measuring of a model is, while its servers start and answer."""

import time

from e3mega.evaluate.sampling import Source
from e3mega.run.measuring.progress_line import ProgressLine


class SamplingProgress:
    """Watches a source. Example: ``SamplingProgress("quickstart", num_servers=1)``."""

    def __init__(self, name: str, num_servers: int) -> None:
        self._name = name
        self._line = ProgressLine()
        self._start = time.monotonic()
        self._source: Source | None = None
        servers = "a server starts" if num_servers == 1 else f"{num_servers} servers start"
        self._line.show(f"{name}: {servers}")

    def ready(self) -> None:
        """The servers answer from now on."""
        self._start = time.monotonic()

    def watch(self, source: Source) -> None:
        """The source has one more answer."""
        self._source = source
        if self._line.is_due:
            self._show(source)

    def _show(self, source: Source) -> None:
        # A measurement's later parts ask for more, so the second number grows.
        seconds = max(1e-9, time.monotonic() - self._start)
        self._line.show(
            f"{self._name}: {source.num_answered}/{source.num_asked} requests, "
            f"{source.num_generated} tokens generated, {source.num_reused} reused, "
            f"{source.num_generated / seconds:.0f} tokens/s"
        )

    def close(self) -> None:
        """Show the last state and end the line."""
        if self._source is not None:
            self._show(self._source)
        self._line.close()
