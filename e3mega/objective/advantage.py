"""How rewards become advantages: the kinds and their formulas; ``objective.baselines`` computes."""

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Options, Positive, PositiveFloat


class Constant(Options):
    """1 for every sample, whatever its reward: supervised learning."""

    kind: Literal["constant"]
    """Names the advantage."""


class FixedBaseline(Options):
    """scale (r - baseline): no comparison within the group.

    With baseline 1/2 and scale 2 a correct sample has 1 and a wrong one -1 (arXiv 2506.01347).
    """

    kind: Literal["fixed_baseline"]
    """Names the advantage."""
    baseline: float = 0.5
    """Taken off every reward."""
    scale: PositiveFloat = 2.0
    """Factor on what remains."""


class GroupMean(Options):
    """r - mean of the group (Dr. GRPO, arXiv 2503.20783, Eq. 3)."""

    kind: Literal["group_mean"]
    """Names the advantage."""


class GroupMeanStd(Options):
    """(r - mean) / (std + 1e-6), std with S - 1 below the line (GRPO, arXiv 2402.03300)."""

    kind: Literal["group_mean_std"]
    """Names the advantage."""


class LeaveOneOut(Options):
    """r - mean of the group's other samples (RLOO, arXiv 2402.14740)."""

    kind: Literal["leave_one_out"]
    """Names the advantage."""


class LengthWeighted(Options):
    """r - sum(length r) / sum(length) of the group (OPO, arXiv 2505.23585)."""

    kind: Literal["length_weighted"]
    """Names the advantage."""


class ShiftedMean(Options):
    """r - (mean of the group + shift) (AsymRE, arXiv 2506.20520).

    Below 0 the shift makes positive samples weigh more, and the update safe off policy.
    """

    kind: Literal["shifted_mean"]
    """Names the advantage."""
    shift: float = -0.1
    """Added to the group's mean before it is taken off."""


class WhitenBaseline(Enum):
    """What is taken off a reward before the step is whitened."""

    NONE = "none"
    """Nothing."""
    GROUP_MEAN = "group_mean"
    """The mean of the group (REINFORCE++-baseline)."""


class BatchWhitened(Options):
    """(x - mean) / sqrt(var + 1e-8) over the step's tokens, x the reward less the baseline.

    REINFORCE++ (arXiv 2501.03262): each token carries its sample's return; var has one less than
    the number of tokens below the line.
    """

    kind: Literal["batch_whitened"]
    """Names the advantage."""
    baseline: WhitenBaseline = WhitenBaseline.NONE
    """What is taken off a reward first."""


class VirtualBest(Options):
    """(r - m) / (s + 1e-6), m and s over the group and one more sample of the best reward.

    NGRPO (arXiv 2509.18851): a group whose samples all fail then has negative advantages. s has
    S below the line.
    """

    kind: Literal["virtual_best"]
    """Names the advantage."""
    best: float = 1.0
    """Reward of the sample that is added."""


class PassAtK(Options):
    """The gradient of pass@k, by its closed form (arXiv 2508.10751, Sec. 2.4)."""

    kind: Literal["pass_at_k"]
    """Names the advantage."""
    k: Positive = 4
    """Samples of which one has to be right."""


class MaximumLikelihood(Options):
    """(r - mean) / (mean + 1e-6): the gradient of log of the success rate (MaxRL, 2602.02710)."""

    kind: Literal["maximum_likelihood"]
    """Names the advantage."""


Advantage = Annotated[
    Constant
    | FixedBaseline
    | GroupMean
    | GroupMeanStd
    | LeaveOneOut
    | LengthWeighted
    | ShiftedMean
    | BatchWhitened
    | VirtualBest
    | PassAtK
    | MaximumLikelihood,
    Field(discriminator="kind"),
]
