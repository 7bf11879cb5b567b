"""The records of plan.json: all that a job reads."""

from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.curriculum.options import Budget, DataOptions, Exit, TokenCaps
from e3mega.errors import RecordError
from e3mega.families.geometry import ModelOptions
from e3mega.objective.options import LossOptions
from e3mega.plan.estimates import Estimates
from e3mega.spec.schema.cluster import ClusterOptions
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.evaluation import EvaluationOptions
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import LayoutOptions, LearnerLayout
from e3mega.spec.schema.optimizer import OptimizerOptions
from e3mega.spec.schema.rollout import RolloutOptions
from e3mega.spec.schema.run import CheckpointOptions, LoggingOptions
from e3mega.tasks.options import TaskOptions


class Role(Enum):
    """What a job is for."""

    GENERATION = "generation"
    """One vLLM server."""
    LEARNER = "learner"
    """All ranks of the learner, under one torchrun."""
    LOOP = "loop"
    """The loop."""


LEFT_STATUS = 75
"""Exit status of a loop, and of a run, that left at a checkpoint as it was asked (EX_TEMPFAIL)."""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """The processes of one role on one node.

    ``{run_dir}`` in argv stands for the run folder. Example:
    ``JobPlan("loop", Role.LOOP, ("python", "-m", "e3mega.loop.wiring", "{run_dir}"), {}, 0)``.
    """

    name: str
    role: Role
    argv: tuple[str, ...]
    env: dict[str, str]
    num_devices: int
    node: int = 0
    """Number of the node that it runs on."""
    devices: tuple[int, ...] = ()
    """Numbers of the GPUs of its node that it may use; empty when it sees all."""


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """What follows from one token budget of a stage.

    Example: ``BudgetPlan(64, 80, 2048, 25, 0.0)``.
    """

    tokens: int
    max_sequence_tokens: int
    """Prompt and completion."""
    packed_tokens: int
    """Tokens of one packed bin (one micro-batch); at least max_sequence_tokens."""
    sequences_per_bin: int
    """Full-length sequences that fit into one bin."""
    overlong_buffer_tokens: float
    """The last tokens of the budget, over which a soft penalty of long traces grows; 0 for none."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage with every section that applies to it.

    Example: see ``specs/runs/quickstart-small.yaml`` through ``e3mega plan --json``.
    """

    name: str
    index: int
    fingerprint: str
    mode: StageMode
    budget: Budget
    budgets: tuple[BudgetPlan, ...]
    """One per budget that the rule may give, ascending."""
    exit: Exit
    max_steps: int
    """Most optimizer steps the stage can take."""
    data: DataOptions
    caps: TokenCaps
    learner: LearnerLayout
    """The learner's grid in this stage."""
    segment: int
    """Stages of one segment share the learner's grid; the learner starts again at the next."""
    task: TaskOptions
    rollout: RolloutOptions
    loss: LossOptions
    generation: GenerationOptions
    optimizer: OptimizerOptions
    evaluation: EvaluationOptions


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """What each generation server is started with."""

    max_model_len: int
    """Prompt and longest completion ever asked for, in tokens."""
    max_num_seqs: int
    max_num_batched_tokens: int
    kv_cache_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a job reads. Written once at the start of a run, never changed."""

    e3mega_version: str
    name: str
    seed: int
    run_fingerprint: str
    model: ModelOptions
    layout: LayoutOptions
    server: ServerPlan
    stages: tuple[StagePlan, ...]
    caps: TokenCaps
    """Hard limits of the run's tokens."""
    jobs: tuple[JobPlan, ...]
    checkpoint: CheckpointOptions
    logging: LoggingOptions
    num_parameters: int
    sync_bytes: int
    """Bytes of one weight sync: every HF-named tensor once."""
    warnings: tuple[str, ...]
    cluster: ClusterOptions
    estimates: Estimates = field(default_factory=Estimates)

    @property
    def num_nodes(self) -> int:
        """Nodes that jobs stand on."""
        return 1 + max((job.node for job in self.jobs), default=0)

    @property
    def num_servers(self) -> int:
        """Replicas of the generation tier."""
        return sum(job.role is Role.GENERATION for job in self.jobs)


def learner_plan(plan: Plan, segment: int) -> Plan:
    """The plan as the learner of a segment reads it: ``layout.learner`` is the segment's grid."""
    grid = next(stage.learner for stage in plan.stages if stage.segment == segment)
    return replace(plan, layout=plan.layout.model_copy(update={"learner": grid}))


_ADAPTER = TypeAdapter(Plan)


def plan_to_json(plan: Plan) -> str:
    """The text of plan.json, keys in field order."""
    return _ADAPTER.dump_json(plan, indent=2).decode() + "\n"


def read_plan(path: Path) -> Plan:
    """Read plan.json.

    Raises RecordError naming the file and the field when it is not a plan of this version.
    """
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RecordError(
            f"{path}: {field}: {first['msg']}; the plan was written by another version of e3mega "
            "or changed by hand; start a new run from the spec"
        ) from error
