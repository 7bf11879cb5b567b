"""Known data sets of mathematics: hub names, configurations, splits and columns."""

from dataclasses import dataclass
from enum import Enum


class LayoutName(Enum):
    """A data set's layout by name."""

    PLAIN = "plain"
    """Columns ``problem`` and ``answer``."""
    AIME_2025 = "aime_2025"
    """opencompass/AIME2025: both contests of AIME 2025, a test set; math-ai/aime25 as well."""
    HMMT_2025 = "hmmt_2025"
    """FlagEval/HMMT_2025: HMMT February 2025, a test set; MathArena/hmmt_feb_2025 as well."""
    DEEPSCALER = "deepscaler"
    """agentica-org/DeepScaleR-Preview-Dataset: about 40,000 training problems."""
    VERL = "verl"
    """Columns ``prompt`` (chat messages) and ``reward_model`` (its ``ground_truth``), as the e3
    paper's released sets have them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a data set lies and what its columns are called.

    Example: ``Layout("a/b", (), "train", None, ("problem",), "answer")``.
    """

    hub_name: str | None
    configurations: tuple[str, ...]
    """Of ``hub_name``, loaded one after the other; each is a slice of its own."""
    split: str | None
    """Training split; None for a test set."""
    held_out_split: str | None
    problem_columns: tuple[str, ...]
    """Names that copies of the data set give the problem; the first one present is read."""
    answer_column: str


LAYOUTS: dict[LayoutName, Layout] = {
    LayoutName.PLAIN: Layout(None, (), "train", None, ("problem",), "answer"),
    LayoutName.AIME_2025: Layout(
        "opencompass/AIME2025",
        ("AIME2025-I", "AIME2025-II"),
        None,
        "test",
        ("question", "problem"),
        "answer",
    ),
    LayoutName.HMMT_2025: Layout(
        "FlagEval/HMMT_2025", (), None, "train", ("question", "problem"), "answer"
    ),
    LayoutName.DEEPSCALER: Layout(
        "agentica-org/DeepScaleR-Preview-Dataset", (), "train", None, ("problem",), "answer"
    ),
    LayoutName.VERL: Layout(None, (), "train", None, ("prompt",), "reward_model"),
}
