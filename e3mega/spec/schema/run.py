"""The whole spec of a run: its sections, its name and its seed."""

from e3mega.families.geometry import ModelOptions
from e3mega.objective.options import LossOptions
from e3mega.options import NonNegative, Options, Positive
from e3mega.spec.schema.cluster import ClusterOptions
from e3mega.spec.schema.curriculum import CurriculumOptions
from e3mega.spec.schema.estimates import EstimateOptions
from e3mega.spec.schema.evaluation import EvaluationOptions
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import LayoutOptions
from e3mega.spec.schema.optimizer import OptimizerOptions
from e3mega.spec.schema.rollout import RolloutOptions
from e3mega.tasks.options import TaskOptions


class CheckpointOptions(Options):
    """When checkpoints are taken and how many are kept."""

    every_rounds: Positive = 10
    """Rounds between checkpoints; one is also taken at the end of each stage."""
    keep_last: Positive = 2
    """Newest complete checkpoints that are kept."""
    keep_every_steps: Positive | None = None
    """Keeps the first checkpoint at or after each multiple of these steps too; null for none."""
    keep_best: NonNegative = 0
    """Keeps of each stage as many checkpoints with the highest mean reward since the one before."""
    is_asynchronous: bool = True
    """Whether files are written while the learner trains on."""


class LoggingOptions(Options):
    """What is logged besides the JSON lines."""

    num_report_rollouts: Positive = 20
    """Rollouts shown in the report."""
    sign_gradients_every_steps: Positive | None = 20
    """Steps between measurements of the gradient of each sign in the space of parameters, which
    cost two more passes of the step; null for none."""


class RunOptions(Options):
    """A run spec after composition."""

    name: str
    """Names the run and its folder."""
    seed: NonNegative = 1
    """Every random choice of the run derives from it."""
    model: ModelOptions
    """Family, geometry and starting weights."""
    layout: LayoutOptions = LayoutOptions()
    """Ranks and devices of each job."""
    task: TaskOptions
    """Data, verifier and prompt template."""
    rollout: RolloutOptions = RolloutOptions()
    """Size and staleness of what a step consumes."""
    loss: LossOptions = LossOptions()
    """The whole of a loss variant."""
    generation: GenerationOptions = GenerationOptions()
    """Sampling and the servers' start and deadlines."""
    optimizer: OptimizerOptions = OptimizerOptions()
    """AdamW and its schedule."""
    evaluation: EvaluationOptions
    """What is measured on held-out problems."""
    curriculum: CurriculumOptions
    """Stages and their order."""
    checkpoint: CheckpointOptions = CheckpointOptions()
    """When checkpoints are taken."""
    logging: LoggingOptions = LoggingOptions()
    """What is logged."""
    cluster: ClusterOptions = ClusterOptions()
    """The nodes that jobs stand on."""
    estimates: EstimateOptions = EstimateOptions()
    """What the planner assumes."""
