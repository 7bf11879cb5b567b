"""The ``loss`` section: the parts that a loss variant is composed of."""

from e3mega.objective.advantage import Advantage, GroupMeanStd
from e3mega.objective.correction import Correction
from e3mega.objective.credit import Credit, Uniform
from e3mega.objective.kl import KlOptions
from e3mega.objective.ratio import NoRatio, Ratio, TokenRatio
from e3mega.objective.reduction import Reduction, TokenMean
from e3mega.objective.sign_rule import SignRule
from e3mega.options import Options, Positive, PositiveFloat


class EntropyOptions(Options):
    """A bonus on the entropy of the tokens that train, reduced like the loss."""

    coefficient: PositiveFloat
    """Weight of the term."""


class DynamicSampling(Options):
    """Groups of equal rewards are dropped and others sampled (DAPO, arXiv 2503.14476, Sec. 3.2)."""

    max_refills: Positive = 4
    """Times that missing groups are sampled anew; then those of equal rewards fill the round."""


class LossOptions(Options):
    """The whole of a loss variant; a named one is a fragment over these parts."""

    advantage: Advantage = GroupMeanStd(kind="group_mean_std")
    """How rewards become advantages."""
    credit: Credit = Uniform(kind="uniform")
    """How a sample's advantage is spread over its tokens."""
    sign: SignRule = SignRule()
    """What is done with samples by the sign of their advantage."""
    ratio: Ratio = TokenRatio(kind="token")
    """What multiplies the advantage of a token."""
    reduction: Reduction = TokenMean(kind="token_mean")
    """How the terms of tokens become one number."""
    kl: KlOptions | None = None
    """A penalty on the distance to a reference policy; null for none."""
    entropy: EntropyOptions | None = None
    """A bonus on entropy; null for none."""
    correction: Correction | None = None
    """What is done about rollouts of another policy; null is allowed at ``rollout.max_lag: 0``."""
    dynamic_sampling: DynamicSampling | None = None
    """Whether groups of equal rewards are replaced; null for no."""

    @property
    def selects_tokens(self) -> bool:
        """Whether it takes scores of tokens from a forward pass of its own."""
        return self.sign.negative.tokens is not None

    @property
    def compares_with_start(self) -> bool:
        """Whether it takes the learner's log-probabilities at the start of the round."""
        return not isinstance(self.ratio, NoRatio) or self.correction is not None
