"""Budget, exit and data rules of a stage."""

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Fraction, NonNegativeFloat, Options, Positive, PositiveFloat, TokenCount


class FixedBudget(Options):
    """A token budget chosen by the author."""

    kind: Literal["fixed"]
    """Names the rule."""
    tokens: TokenCount
    """The most tokens a completion may have."""


class RampBudget(Options):
    """A budget that grows within the stage, level by level."""

    kind: Literal["ramp"]
    """Names the rule."""
    levels: tuple[TokenCount, ...]
    """Budgets in the order they are used, ascending; the last one stays."""
    steps_per_level: Positive
    """Optimizer steps at each level; a whole number of rounds."""


class CoupledBudget(Options):
    """The coupled rule: the smallest B with J(2B) <= kappa J(B) (arXiv 2506.09026, Eq. 6.1)."""

    kind: Literal["coupled"]
    """Names the rule."""
    candidates: tuple[TokenCount, ...]
    """Budgets tried, ascending."""
    kappa: Annotated[float, Field(ge=1.0)] = 1.2
    """How much doubling the budget may still help; it never hurts, so at least 1."""
    floor_tokens: TokenCount | None = None
    """B_0 of the rule: smaller candidates do not qualify."""
    has_mean_length_floor: bool = False
    """Whether candidates below the mean completion length of the measurement do not qualify."""
    pass_k: Positive = 1
    """J is the mean pass@k; 1 is accuracy."""
    num_problems: Positive = 512
    """Problems of the stage's own data that J is measured on, fewer if the data has fewer."""
    samples_per_problem: Positive = 2
    """Generations of each problem; every budget is read off the same ones."""


Budget = Annotated[FixedBudget | RampBudget | CoupledBudget, Field(discriminator="kind")]


class StepsExit(Options):
    """The stage ends after a number of optimizer steps."""

    kind: Literal["steps"]
    """Names the rule."""
    steps: Positive
    """Optimizer steps of the stage."""


class TokenKind(Enum):
    """Tokens that an exit rule or a cap counts."""

    GENERATED = "generated"
    """Completion tokens that the tier gave for training."""
    TRAINED = "trained"
    """Completion tokens that optimizer steps consumed."""


class TokensExit(Options):
    """The stage ends at the end of the round in which a number of tokens is reached."""

    kind: Literal["tokens"]
    """Names the rule."""
    of: TokenKind
    """Which tokens are counted."""
    num_tokens: TokenCount
    """Tokens of the stage; the round that reaches them is finished."""
    max_steps: Positive
    """Cap of optimizer steps."""


class Signal(Enum):
    """What a plateau or a target is read off."""

    REWARD = "reward"
    """Mean reward of the rollouts sampled for training since the last measurement, those that
    dynamic sampling drops included."""
    ACCURACY = "accuracy"
    """Accuracy on the held-out problems of ``evaluation`` at the stage's budget."""


class PlateauExit(Options):
    """The stage ends when a signal has stopped rising."""

    kind: Literal["plateau"]
    """Names the rule."""
    of: Signal = Signal.REWARD
    """What is measured."""
    every_steps: Positive
    """Steps between measurements; a whole number of rounds."""
    patience: Positive = 3
    """Measurements in a row that must not exceed the best one before them."""
    min_gain: NonNegativeFloat = 0.0
    """How much a measurement must exceed the best one to count as a rise."""
    max_steps: Positive
    """Cap of optimizer steps."""


class TargetExit(Options):
    """The stage ends when a signal has reached a value."""

    kind: Literal["target"]
    """Names the rule."""
    of: Signal = Signal.REWARD
    """What is measured."""
    at_least: Fraction
    """The value to reach."""
    every_steps: Positive
    """Steps between measurements; a whole number of rounds."""
    max_steps: Positive
    """Cap of optimizer steps."""


class RecognitionExit(Options):
    """A warm-up ends when the model tells hits from misses on held-out attempts."""

    kind: Literal["recognition"]
    """Names the rule."""
    max_steps: Positive
    """Cap of optimizer steps; the stage ends there whatever the rates are."""
    min_steps: Positive = 1
    """Steps before the rates are first measured."""
    every_steps: Positive = 50
    """Steps between measurements; a whole number of rounds."""
    num_attempts: Positive = 512
    """Held-out attempts measured, half of them hits."""
    min_hit_frac: Fraction = 0.95
    """Share of hits that must be called hits."""
    max_false_hit_frac: Fraction = 0.05
    """Share of misses that may be called hits."""


Exit = Annotated[
    StepsExit | TokensExit | PlateauExit | TargetExit | RecognitionExit,
    Field(discriminator="kind"),
]


class DataPart(Options):
    """A part of a mixture: which prompts of the stage's task it holds, and how often they come."""

    slices: tuple[str, ...] | None = None
    """Names of the task's slices that it holds, e.g. [easy]; null for all."""
    min_pass_rate: Fraction | None = None
    """Prompts whose graded pass rate is lower, or unknown, are not in it."""
    max_pass_rate: Fraction | None = None
    """Prompts whose graded pass rate is higher, or unknown, are not in it."""
    weight: PositiveFloat = 1.0
    """Share of the stage's prompts that come from it, against the other parts' weights."""
    max_repeats: Positive | None = None
    """How often each of its prompts may come; null for no limit."""


class AdmissionOptions(Options):
    """Prompts by the pass rate that they showed at their last visit in the stage."""

    min_pass_rate: Fraction = 0.0
    """A prompt that did worse does not come again."""
    max_pass_rate: Fraction = 1.0
    """A prompt that did better does not come again."""


class DataOptions(Options):
    """The prompts of a stage: a mixture of parts of its task's prompts, and who comes again."""

    parts: dict[str, DataPart] = Field(default_factory=dict)
    """Parts of the mixture by name; none takes all prompts of the task's slice evenly."""
    drops_solved: bool = False
    """Whether a prompt whose every sample was right at its last visit does not come again."""
    admission: AdmissionOptions | None = None
    """Pass rates within which a prompt comes again; null for all."""


class TokenCaps(Options):
    """Hard limits of tokens: a run or stage that would pass one stops with an error."""

    max_generated_tokens: TokenCount | None = None
    """Completion tokens generated for any purpose."""
    max_trained_tokens: TokenCount | None = None
    """Completion tokens trained on, those of supervised stages included."""
    max_evaluated_tokens: TokenCount | None = None
    """Completion tokens generated for measurements."""
    max_discarded_tokens: TokenCount | None = None
    """Completion tokens generated and dropped."""
