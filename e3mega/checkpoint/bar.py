"""A progress bar over the bytes of a conversion."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn


@contextmanager
def byte_bar(title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if that is a terminal; gives a function that takes bytes done."""
    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total_bytes)
        yield lambda num_bytes: progress.advance(task, num_bytes)
