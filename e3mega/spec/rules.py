"""Rules that tie several keys of a spec together, one small function each."""

from collections.abc import Callable

from e3mega.errors import Problem
from e3mega.spec.origins import Composition
from e3mega.spec.schema.run import RunOptions


def check_rules(
    options: RunOptions, composition: Composition, report: Callable[[Problem], None]
) -> None:
    """Report every rule that the options break."""
