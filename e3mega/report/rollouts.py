"""Which recorded rollouts the page shows, and their completions cut into judged attempts."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path

from e3mega.plan.planfile import Plan
from e3mega.report.cards import Outcome, Piece, ShownRollout, Verdict
from e3mega.report.runs import Run, number, text
from e3mega.rollout.records import FinishReason, GroupRequest, Purpose, Rollout
from e3mega.rollout.rows import read_groups
from e3mega.tasks.catalog import build_task
from e3mega.tasks.interface import Marks, Task

SHOWN_PURPOSES = {Purpose.TRAIN: "training", Purpose.EVALUATE: "evaluation"}


@dataclass(frozen=True, slots=True)
class Found:
    """A recorded rollout and where it was found."""

    purpose: Purpose
    stage: str
    """The stage it belongs to; for an evaluation the label of the model, e.g. ``base``."""
    round: int
    request: GroupRequest
    rollout: Rollout


def read_shown_rollouts(run: Run, count: int) -> list[ShownRollout]:
    """At most ``count`` rollouts: stages, purposes and outcomes by turns, short and long ones.

    Of each stage the first, the middle and the last recorded round are looked at. Empty without
    a readable plan, which says how the tokens read.
    """
    if run.plan is None:
        return []
    found = list(_find(run))
    chosen = choose(found, count)
    # Stages differ in the slice of the data, which neither marks nor text depend on.
    task = build_task(run.plan.stages[-1].task, run.plan.seed, run.paths.model_dir)
    places = {id(each): place for place, each in enumerate(found)}
    return [_shown(run, each, task) for each in sorted(chosen, key=lambda c: places[id(c)])]


def choose(found: Sequence[Found], count: int) -> list[Found]:
    """Rollouts by turns from every kind; within a kind spread from few to many attempts."""
    kinds: dict[tuple[Purpose, str, Outcome], list[Found]] = {}
    for each in found:
        kind = (each.purpose, each.stage, outcome_of(each.rollout))
        kinds.setdefault(kind, []).append(each)
    shares = dict.fromkeys(kinds, 0)
    left = {kind: len(members) for kind, members in kinds.items()}
    turns = cycle(kinds)
    for kind in islice(turns, count * max(1, len(kinds))) if kinds else ():
        if sum(shares.values()) == count:
            break
        if shares[kind] < left[kind]:
            shares[kind] += 1
    chosen: list[Found] = []
    for kind, members in kinds.items():
        ordered = sorted(members, key=lambda each: each.rollout.marks.num_attempts)
        places = [(2 * i + 1) * len(ordered) // (2 * shares[kind]) for i in range(shares[kind])]
        chosen.extend(ordered[place] for place in places)
    return chosen


def outcome_of(rollout: Rollout) -> Outcome:
    """Correct if it earned a reward, else by how it ended."""
    if rollout.marks.reward > 0:
        return Outcome.CORRECT
    if rollout.completion.finish_reason is FinishReason.LENGTH:
        return Outcome.TRUNCATED
    return Outcome.INCORRECT


def pieces_of(request: GroupRequest, rollout: Rollout, task: Task) -> tuple[Piece, ...]:
    """The completion cut after each attempt, and what follows the last one.

    Whether an attempt is claimed, and rightly, is read off the marks of the completion up to it.
    """
    token_ids = rollout.completion.token_ids
    ends = rollout.marks.attempts_at
    pieces: list[Piece] = []
    before = task.mark(request.prompt, ())
    for start, end in pairwise((0, *ends)):
        marks = task.mark(request.prompt, token_ids[:end])
        verdict = _verdict(before, marks)
        before = marks
        pieces.append(Piece(task.text(token_ids[start:end]), verdict, is_attempt=True))
    rest = token_ids[ends[-1] if ends else 0 :]
    if rest:
        is_answer = rollout.marks.reward > 0
        verdict = Verdict.ANSWER if is_answer else Verdict.NONE
        pieces.append(Piece(task.text(rest), verdict, is_attempt=False))
    return tuple(pieces)


def _verdict(before: Marks, after: Marks) -> Verdict:
    if after.num_false_hits > before.num_false_hits:
        return Verdict.FALSE
    if after.num_missed_hits > before.num_missed_hits:
        return Verdict.MISSED
    return Verdict.YES if after.num_claimed_hits > before.num_claimed_hits else Verdict.NO


def _find(run: Run) -> Iterator[Found]:
    for purpose in SHOWN_PURPOSES:
        folder = run.paths.rollouts_for(purpose.value)
        stages = (path for path in folder.glob("*") if path.is_dir())
        for stage in sorted(stages, key=lambda path: (_place(run.plan, path.name), path.name)):
            for path in _some(sorted(stage.glob("round_*.parquet"))):
                yield from _read(run, purpose, stage.name, path)


def _read(run: Run, purpose: Purpose, stage: str, path: Path) -> Iterator[Found]:
    round_number = int(path.stem.removeprefix("round_"))
    for group in read_groups(path):
        label = stage
        if purpose is Purpose.EVALUATE:
            label = _evaluated(run, group.request.version, stage)
        for rollout in group.rollouts:
            yield Found(purpose, label, round_number, group.request, rollout)


def _evaluated(run: Run, version: int, default: str) -> str:
    """The label under which a version was evaluated."""
    for event in run.of("evaluation"):
        if number(event, "version") == version:
            return text(event, "label")
    return default


def _some(paths: Sequence[Path]) -> list[Path]:
    places = sorted({0, len(paths) // 2, len(paths) - 1}) if paths else []
    return [paths[place] for place in places]


def _place(plan: Plan | None, folder: str) -> int:
    """The place of the stage that a folder belongs to; a measurement's ends in its version."""
    names = [each.name for each in plan.stages] if plan is not None else []
    stage = re.sub(r"_v[0-9]+$", "", folder)
    return names.index(stage) if stage in names else -1


def _shown(run: Run, each: Found, task: Task) -> ShownRollout:
    completion, marks = each.rollout.completion, each.rollout.marks
    return ShownRollout(
        run=f"{run.name}, seed {run.seed}",
        purpose=SHOWN_PURPOSES[each.purpose],
        stage=each.stage,
        round=each.round,
        version=each.request.version,
        problem=each.request.prompt.problem,
        pieces=pieces_of(each.request, each.rollout, task),
        outcome=outcome_of(each.rollout),
        reward=marks.reward,
        num_attempts=marks.num_attempts,
        num_tokens=len(completion.token_ids),
        budget_tokens=each.request.max_tokens,
    )
