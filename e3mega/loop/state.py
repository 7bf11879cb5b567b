"""The loop's place in a run: what a checkpoint carries so that a resume goes on exactly there."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import CheckpointError
from e3mega.rollout.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Origin:
    """When a round was generated. Example: ``Origin(version=310, round=4)``."""

    version: int
    """Version that every token of the round was sampled under."""
    round: int
    """Round of the stage that trained first on that version."""


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
    """Rounds finished in the stage; decides which prompts come next."""
    is_stage_finished: bool = False
    """The exit rule has spoken; what remains is the evaluation after the stage."""
    version: int = 0
    """Optimizer steps finished in the run."""
    budget_tokens: int = 0
    """The budget of the current stage, 0 until it is chosen."""
    generated: dict[int, Origin] = field(default_factory=dict[int, Origin])
    """Origin of each round that is being trained or was generated ahead of its training."""
    exit_reason: str = ""
    """Why the stage ended."""
    ledger: Ledger = field(default_factory=Ledger)
    """What became of every prompt, rollout and token so far."""

    def next_stage(self) -> "LoopState":
        """The start of the stage after this one."""
        return replace(
            self,
            stage_index=self.stage_index + 1,
            stage_step=0,
            stage_round=0,
            is_stage_finished=False,
            budget_tokens=0,
            generated={},
            exit_reason="",
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
