"""The union of all task options; a task's own options stand in its file."""

from typing import Annotated

from pydantic import Field

from e3mega.tasks.countdown import CountdownOptions
from e3mega.tasks.countdown_text import CountdownTextOptions
from e3mega.tasks.math import MathOptions
from e3mega.tasks.multiplication import MultiplicationOptions
from e3mega.tasks.own import OwnOptions

TaskOptions = Annotated[
    CountdownOptions | CountdownTextOptions | MultiplicationOptions | MathOptions | OwnOptions,
    Field(discriminator="kind"),
]
"""One of the tasks, chosen by ``kind``."""
