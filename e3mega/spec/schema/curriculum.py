"""The ``curriculum`` section: stages by name, their order, and what each overrides."""

from enum import Enum

from e3mega.curriculum.options import Budget, DataOptions, Exit, TokenCaps
from e3mega.objective.options import LossOptions
from e3mega.options import Options
from e3mega.spec.schema.evaluation import EvaluationOptions
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import LayoutOptions
from e3mega.spec.schema.optimizer import OptimizerOptions
from e3mega.spec.schema.rollout import RolloutOptions
from e3mega.tasks.options import TaskOptions


class StageMode(Enum):
    """Where a stage's completions come from."""

    SUPERVISED = "supervised"
    """The task's generator of traces: a purely positive gradient."""
    RL = "rl"
    """The generation tier."""


class StageOptions(Options):
    """One stage: a slice of data, a token budget, an exit rule, and what it overrides.

    The sections are whole after composition: the run's section with the stage's keys over it.
    """

    mode: StageMode
    """Where the stage's completions come from."""
    budget: Budget
    """The most tokens of a completion, or the rule that chooses it."""
    exit: Exit
    """When the stage ends."""
    data: DataOptions = DataOptions()
    """Which prompts of the task come, how often, and in what mixture."""
    caps: TokenCaps = TokenCaps()
    """Hard limits of the stage's tokens."""
    layout: LayoutOptions
    """The run's layout with the stage's keys; another learner grid re-shards at the boundary."""
    task: TaskOptions
    """The run's task with the stage's slice."""
    rollout: RolloutOptions
    """The run's rollout with the stage's keys."""
    loss: LossOptions
    """The run's loss with the stage's keys."""
    generation: GenerationOptions
    """The run's generation with the stage's keys."""
    optimizer: OptimizerOptions
    """The run's optimizer with the stage's keys."""
    evaluation: EvaluationOptions
    """The run's evaluation with the stage's keys."""


class CurriculumOptions(Options):
    """Stages by name, and their order."""

    order: tuple[str, ...]
    """Names of the stages in the order they run."""
    stages: dict[str, StageOptions]
    """Stages by name."""
    caps: TokenCaps = TokenCaps()
    """Hard limits of the whole run's tokens."""
