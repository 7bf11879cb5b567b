"""A user's own task: one Python file, named in the spec."""

from typing import Literal

from pydantic import Field

from e3mega.options import Sha256
from e3mega.tasks.text_options import GradingOptions, TextOptions


class OwnOptions(TextOptions):
    """Which file defines the task, and the options that it takes."""

    kind: Literal["own"]
    """Names the task."""
    path: str
    """The Python file, relative to the folder that e3mega is started in; see docs/tasks.md."""
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Options of the file's own; its class ``Options`` checks them."""
    sha256: Sha256 | None = None
    """Checksum that the file must have; null accepts any."""
    grading: GradingOptions = GradingOptions()
    """Limits of the workers in which the file's ``grade`` runs."""
