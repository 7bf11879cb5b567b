r"""Mathematics with answers in ``\boxed{}``: where its problems come from and how it is asked."""

from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import NonNegative, Sha256, TokenCount
from e3mega.tasks.math.layouts import LayoutName
from e3mega.tasks.text_options import GradingOptions, TextOptions


class MathOptions(TextOptions):
    """A data set of problems with answers, and the rules by which a response is graded."""

    kind: Literal["math"]
    """Names the task."""
    layout: LayoutName = LayoutName.PLAIN
    """Names of the columns; a known data set brings its hub name and splits too."""
    source: str | None = None
    """Hub name, JSON-lines, CSV, Parquet or Arrow file, or folder of such files or of save_to_disk;
    null for the layout's own hub name. Rows without a problem or an answer are left out."""
    revision: str | None = None
    """Commit of the hub's repository; null takes its newest."""
    sha256: Sha256 | None = None
    """Checksum that a source which is a file or a folder must have; null accepts any."""
    split: str | None = None
    """Split that training problems come from; null for the layout's, none if it is a test set."""
    held_out_split: str | None = None
    """Split that held-out problems come from; null for the layout's."""
    num_held_out: NonNegative = 0
    """Problems held out of the training split when there is no other, drawn by the seed."""
    prompt: Annotated[str, Field(pattern=r"\{problem\}")] = (
        "{problem} Let's think step by step and output the final answer within \\boxed{}."
    )
    """What the user says; ``{problem}`` stands for the problem."""
    needs_think_end: bool = True
    """Whether a response without ``</think>`` earns nothing, as of a model that thinks."""
    grading: GradingOptions = GradingOptions()
    """Limits of the workers that compare answers."""
    max_prompt_tokens: TokenCount = 1024
    """Problems with a longer prompt are left out."""
    uses_chat_template: bool = True
    """Whether the prompt is a user's turn in the chat template of the model's tokenizer."""
