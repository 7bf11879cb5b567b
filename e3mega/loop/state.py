"""The loop's place in a run: what a checkpoint carries so that a resume goes on exactly there."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import CheckpointError
from e3mega.rollout.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Origin:
    """How a round was generated. Example: ``Origin(version=310, round=4, places=(0, 1))``."""

    version: int
    """Version that every token of the round was sampled under."""
    round: int
    """Round of the stage that trained first on that version."""
    places: tuple[int, ...]
    """Places of its prompts in the stage's stream; whole steps of them. Empty if supervised."""
    spares: tuple[int, ...] = ()
    """Places behind them for dynamic sampling, taken where groups of equal rewards are dropped."""


@dataclass(frozen=True, slots=True)
class LoopState:
    """Where the loop stands at the end of a round; nothing else decides what it does next.

    Example: ``LoopState(stage_index=1, stage_step=10, stage_round=10, version=310)``.
    """

    stage_index: int = 0
    """Position of the current stage in the plan."""
    stage_step: int = 0
    """Optimizer steps finished in the stage."""
    stage_round: int = 0
    """Rounds finished in the stage."""
    next_place: int = 0
    """First place of the stage's stream of prompts that no round has taken or passed over."""
    returned: tuple[int, ...] = ()
    """Places that rounds took as spares and gave back; they come before ``next_place``."""
    pass_rates: dict[str, float] = field(default_factory=dict[str, float])
    """Share of right samples of a problem's last visit; kept where the stage's data asks for it."""
    signals: tuple[float, ...] = ()
    """Measurements of the stage's plateau or target rule."""
    reward_sum: float = 0.0
    """Of the rollouts sampled for training since the last of ``signals``."""
    num_rewards: int = 0
    """Rollouts of ``reward_sum``."""
    is_stage_finished: bool = False
    """The exit rule has spoken; what remains is the evaluation after the stage."""
    version: int = 0
    """Optimizer steps finished in the run."""
    budget_tokens: int = 0
    """The budget that the current stage's rule gave at its start, 0 until then."""
    generated: dict[int, Origin] = field(default_factory=dict[int, Origin])
    """Origin of each round that is being trained or was generated ahead of its training."""
    exit_reason: str = ""
    """Why the stage ended."""
    ledgers: dict[str, Ledger] = field(default_factory=dict[str, Ledger])
    """What became of every prompt, rollout and token so far, by stage."""
    shared: dict[str, Ledger] = field(default_factory=dict[str, Ledger])
    """The same of the stages that another run trained; this run has spent none of it."""

    @property
    def ledger(self) -> Ledger:
        """The ledger of what the run did itself: the sum of its stages'."""
        return sum(self.ledgers.values(), Ledger())

    def ledger_of(self, stage: str) -> Ledger:
        """The ledger of one stage."""
        return self.ledgers.get(stage, Ledger())

    def counted(self, stage: str, count: Callable[[Ledger], Ledger]) -> "LoopState":
        """The state after the stage's ledger has changed."""
        return replace(self, ledgers={**self.ledgers, stage: count(self.ledger_of(stage))})

    def next_stage(self) -> "LoopState":
        """The start of the stage after this one."""
        return LoopState(
            stage_index=self.stage_index + 1,
            version=self.version,
            ledgers=self.ledgers,
            shared=self.shared,
        )


_ADAPTER = TypeAdapter(LoopState)


def state_to_json(state: LoopState) -> str:
    """The text of loop_state.json."""
    return _ADAPTER.dump_json(state).decode()


def read_state(path: Path) -> LoopState:
    """Read loop_state.json of a checkpoint; raises CheckpointError naming file and field."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(
            f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}; "
            "the checkpoint was written by another version of e3mega"
        ) from error
