"""Where a run stands, read from the events that the loop writes."""

import math
from collections import deque
from dataclasses import dataclass, field

from e3mega.metrics import Json
from e3mega.plan.planfile import Plan
from e3mega.spec.schema.curriculum import StageMode

Event = dict[str, Json]

_NUM_TIMED_STEPS = 30


@dataclass(slots=True)
class StageProgress:
    """Where one stage stands. Example: ``StageProgress("easy", StageMode.RL, 80)``."""

    name: str
    mode: StageMode
    max_steps: int
    step: int = 0
    """Finished steps of the stage."""
    first_version: int | None = None
    """Version that the stage began with; None before its first step."""
    started: float | None = None
    """Seconds since the epoch."""
    is_finished: bool = False
    reason: str = ""
    """Why the stage ended."""
    budget_tokens: int | None = None
    values: dict[str, float] = field(default_factory=dict[str, float])
    """The newest finite number of each name in the stage's events."""
    step_times: deque[float] = field(
        default_factory=lambda: deque[float](maxlen=_NUM_TIMED_STEPS + 1)
    )
    """When the newest steps of this attempt ended, seconds since the epoch."""

    def roll_back(self, version: int) -> None:
        """Forget the steps after this version, which are about to be taken again."""
        first = self.first_version
        steps = 0 if first is None else min(self.step, max(0, version - first))
        self.is_finished = self.is_finished and steps == self.step
        self.step = steps
        self.step_times.clear()

    def seconds_left(self) -> float | None:
        """Expected time to the most steps the stage can take; None before two steps ended."""
        if len(self.step_times) < 2:
            return None
        per_step = (self.step_times[-1] - self.step_times[0]) / (len(self.step_times) - 1)
        return per_step * (self.max_steps - self.step)


class Progress:
    """The state of a run: its stages in order, and what it is doing now."""

    def __init__(self, plan: Plan) -> None:
        self.stages = {
            stage.name: StageProgress(stage.name, stage.mode, stage.max_steps)
            for stage in plan.stages
        }
        self.current: StageProgress | None = None
        self.doing = "starts"
        self.is_finished = False
        self._resumes_at: int | None = None

    def observe(self, event: Event) -> None:
        """Take an event of the loop into account; events of no concern are passed over."""
        kind = event["event"]
        if self._resumes_at is not None and kind not in ("run_started", "attempt_resumed"):
            # A new attempt begins at the version of a checkpoint, or at 0 without one.
            for stage in self.stages.values():
                stage.roll_back(self._resumes_at)
            self._resumes_at = None
        if kind == "run_started":
            self._resumes_at = 0
            self.current = None
            self.doing = "starts"
        elif kind == "attempt_resumed":
            self._resumes_at = int(_number(event["version"]))
        elif kind == "evaluation":
            self.doing = f"measures {event['label']}"
        elif kind == "run_finished":
            self.is_finished = True
            self.doing = "done"
        elif (stage := self.stages.get(str(event.get("stage")))) is not None:
            self._observe_stage(str(kind), stage, event)

    def _observe_stage(self, kind: str, stage: StageProgress, event: Event) -> None:
        _keep_numbers(stage.values, event)
        if kind == "stage_started":
            stage.started = _number(event["time"])
            stage.is_finished = False
            stage.budget_tokens = _whole(event.get("budget_tokens"))
            self.current = stage
            self.doing = "trains" if stage.mode is StageMode.SUPERVISED else "generates"
        elif kind == "step":
            # Runs of other versions are listed too; their steps may say less.
            stage.step = _whole(event.get("stage_step")) or stage.step
            stage.max_steps = _whole(event.get("stage_max_steps")) or stage.max_steps
            stage.first_version = int(_number(event["step"])) - stage.step
            stage.step_times.append(_number(event["time"]))
            self.current = stage
        elif kind == "budget_decision":
            stage.budget_tokens = _whole(event["chosen"])
        elif kind == "stage_finished":
            stage.is_finished = True
            stage.reason = str(event["reason"])
            self.doing = "measures"


def numbers_that_matter(stage: StageProgress) -> list[tuple[str, str]]:
    """The few numbers by which a person sees whether the stage goes well, as (name, text)."""
    if stage.mode is StageMode.SUPERVISED:
        chosen = [("loss", "loss", ".3f"), ("hit_frac", "recognition", ".2f")]
        chosen.append(("false_hit_frac", "false hits", ".2f"))
        return _texts(stage.values, chosen)
    chosen = [
        ("reward_mean", "reward", ".3f"),
        ("length", "length", ".0f"),
        ("attempts", "attempts", ".1f"),
        ("entropy", "entropy", ".2f"),
        ("truncated_frac", "truncated", ".2f"),
        ("total_s", "s/round", ".1f"),
    ]
    return _texts({**stage.values, **_means(stage.values)}, chosen)


def duration(seconds: float) -> str:
    """A duration as people read it. Example: ``duration(3725) == "1:02:05"``."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"


def _means(values: dict[str, float]) -> dict[str, float]:
    """Mean length and mean attempts of all rollouts of the newest step.

    Attempts come per sign; with rewards of 0 and 1 the mean reward is the share of the correct.
    """
    means: dict[str, float] = {}
    if values.get("num_rollouts"):
        means["length"] = values.get("tokens_generated", 0.0) / values["num_rollouts"]
    correct, incorrect = values.get("attempts_correct"), values.get("attempts_incorrect")
    if correct is not None and incorrect is not None:
        share = min(1.0, max(0.0, values.get("reward_mean", 0.0)))
        means["attempts"] = share * correct + (1.0 - share) * incorrect
    return means


def _texts(values: dict[str, float], chosen: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(title, f"{values[key]:{form}}") for key, title, form in chosen if key in values]


def _keep_numbers(values: dict[str, float], event: Event) -> None:
    for name, value in event.items():
        if isinstance(value, (int, float)) and math.isfinite(value):
            values[name] = float(value)


def _number(value: Json) -> float:
    assert isinstance(value, (int, float)), f"a metric holds {value!r} where a number belongs"
    return float(value)


def _whole(value: Json) -> int | None:
    return None if value is None else int(_number(value))
