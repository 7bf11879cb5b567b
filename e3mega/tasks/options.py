"""The union of all task options; a task's own options stand in its file."""

from typing import Annotated

from pydantic import Field

from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.text import CountdownTextOptions
from e3mega.tasks.math.options import MathOptions
from e3mega.tasks.multiplication.options import MultiplicationOptions
from e3mega.tasks.own.options import OwnOptions

TaskOptions = Annotated[
    CountdownOptions | CountdownTextOptions | MultiplicationOptions | MathOptions | OwnOptions,
    Field(discriminator="kind"),
]
"""One of the tasks, chosen by ``kind``."""
