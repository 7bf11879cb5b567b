"""The records that cross a process line: completions, rollouts, commands and replies."""

from dataclasses import dataclass, field
from enum import Enum

from e3mega.tasks.interface import Marks, Prompt


class Purpose(Enum):
    """What a group was generated for."""

    TRAIN = "train"
    """To be trained on."""
    REFILL = "refill"
    """To be trained on in place of groups of equal rewards."""
    EVALUATE = "evaluate"
    """Accuracy over budgets on held-out problems."""
    PASS_K = "pass_k"
    """pass@k on held-out problems."""
    BUDGET = "budget"
    """The coupled rule's measurement on the stage's own data."""
    EXIT = "exit"
    """Accuracy on held-out problems that an exit rule reads."""


class FinishReason(Enum):
    """How a completion ended."""

    STOP = "stop"
    """The model ended it."""
    LENGTH = "length"
    """It reached its budget: truncated."""


@dataclass(frozen=True, slots=True)
class VersionSpan:
    """Tokens [start, end) of a completion were sampled under ``version``.

    Example: ``VersionSpan(12, 0, 64)``.
    """

    version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What the tier gave for one sample. Example: ``Completion((5, 1), (-.1, -.2), ...)``."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Log-probability of each token under the distribution sampled from, in nats."""
    finish_reason: FinishReason
    spans: tuple[VersionSpan, ...]


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """One prompt to sample. Example: ``GroupRequest(0, prompt, 8, 64, 1.0, 1.0, 0, 12345, 12)``."""

    index: int
    """Position of the prompt in its round; the group's identity within it."""
    prompt: Prompt
    num_samples: int
    max_tokens: int
    temperature: float
    top_p: float
    """Tokens are drawn from the likeliest ones that together have this probability; 1 for all."""
    top_k: int
    """Tokens are drawn from this many of the likeliest; 0 for all."""
    seed: int
    """Sample k uses seed + k."""
    version: int
    """The version that must produce every token."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion with its verdict; a row of the Parquet files."""

    completion: Completion
    marks: Marks


@dataclass(frozen=True, slots=True)
class Group:
    """All rollouts of one prompt."""

    request: GroupRequest
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True)
class TrainSequence:
    """One sequence as a step consumes it. Example: prompt of 9 tokens, completion of 40.

    ``advantages``, ``rollout_logprobs`` and ``loss_mask`` have one value per completion token. The
    advantages are 1 and the log-probabilities 0 in a supervised stage. The mask is the weight of
    the token over the step's normalizer, 0 where it does not train; a trace's own weights in a
    supervised stage.
    """

    token_ids: tuple[int, ...]
    num_prompt_tokens: int
    advantages: tuple[float, ...]
    rollout_logprobs: tuple[float, ...]
    loss_mask: tuple[float, ...]
    is_correct: bool
    group: int
    """Number of its prompt within the step."""


class CommandKind(Enum):
    """What the learner can be asked to do."""

    TRAIN = "train"
    """Take one optimizer step per batch file, in order."""
    SCORE = "score"
    """Log-probabilities of the tokens of batch files at the current weights."""
    SYNC = "sync"
    """Send the weights to the named servers; what they installed is compared with what was sent."""
    CHECKPOINT = "checkpoint"
    """Write a complete checkpoint, the loop's state in it."""
    EXPORT = "export"
    """Write the weights as a Hugging Face folder."""
    STOP = "stop"
    """Leave with exit status 0."""


@dataclass(frozen=True, slots=True)
class Command:
    """One order to the learner. Example: ``Command(3, CommandKind.SYNC, version=10)``."""

    index: int
    """Ascending from 0 within one attempt of a run."""
    kind: CommandKind
    stage: str = ""
    """TRAIN, SCORE: the stage whose loss, temperature and optimizer apply."""
    stage_step: int = 0
    """TRAIN: optimizer steps that the stage had finished before this command."""
    batch_files: tuple[str, ...] = ()
    """TRAIN, SCORE: paths relative to the run folder."""
    version: int = 0
    """TRAIN: steps finished before it. SYNC, CHECKPOINT, EXPORT: steps finished."""
    loop_state: str = ""
    """CHECKPOINT: the loop's state as JSON."""
    score: float | None = None
    """CHECKPOINT: mean reward of the rollouts trained on since the one before; None without any."""
    output_file: str = ""
    """SCORE: where log-probabilities go, relative to the run folder."""
    servers: tuple[int, ...] = ()
    """SYNC: the replicas that take the weights."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the learner answers to a command of the same index."""

    index: int
    error: str = ""
    """Empty when the command succeeded."""
    seconds: float = 0.0
    steps: tuple[dict[str, float], ...] = ()
    """TRAIN: metrics of each step: loss, grad_norm, entropy, learning_rate, tokens, seconds,
    clip_frac, ratio_max, entropy_correct, entropy_incorrect."""
    lost_servers: dict[int, str] = field(default_factory=dict[int, str])
    """SYNC: replicas that did not take the weights, with the reason; the others did."""
