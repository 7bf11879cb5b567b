"""What forked ranks do in the end-to-end tests; see ``tests.warm_parent``."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from e3mega.learner.reference import References
from e3mega.learner.replay import Losses, Recording, replay
from e3mega.learner.serve import obey, open_session
from e3mega.learner.step import score
from e3mega.learner.transfer import Source, Transfer
from e3mega.mcore.build import build_learner
from e3mega.mcore.parallel import RankGrid
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import read_plan
from e3mega.rollout.records import TrainSequence
from e3mega.weights.source import MegatronWeightSource
from tests.learner_cases import packed

DROPPED = "model.layers.1.mlp.up_proj.weight"


class Dropping:
    """A source that forgets one tensor."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor | None]]:
        return (pair for pair in self._source if pair[0] != DROPPED)


class Lagging:
    """A source that yields, from its second use on, what it held the time before."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._former: list[tuple[str, torch.Tensor | None]] = []

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor | None]]:
        now, former = list(self._source), self._former
        self._former = now
        return iter(former or now)


SOURCES: dict[str, Callable[[Source], Source]] = {
    "": lambda source: source,
    "dropping": Dropping,
    "lagging": Lagging,
}


def serve(grid: RankGrid, *, run_dir: str, source: str) -> None:
    """The learner of a run's first attempt, sending through a source of ``SOURCES``."""
    paths = RunPaths(Path(run_dir))
    session = open_session(read_plan(paths.plan), paths, grid)
    sent = SOURCES[source](MegatronWeightSource(session.learner))
    session.transfer = Transfer(sent, session.plan, paths, is_main=grid.is_main)
    obey(session, 0, 0)


def logits(grid: RankGrid, *, run_dir: str, token_ids: list[int]) -> Any:
    """This rank's columns of the learner's logits, (T, V / tp), at the newest checkpoint."""
    paths = RunPaths(Path(run_dir))
    learner = open_session(read_plan(paths.plan), paths, grid).learner
    (head,) = (m for name, m in learner.chunks[0].named_modules() if name.endswith("output_layer"))
    seen: list[torch.Tensor] = []
    # The learner never holds all logits: its head hands over what it would multiply.
    head.register_forward_hook(lambda _, __, pair: seen.append(pair[0][:, 0] @ pair[1].T))
    answers = (1.0,) * (len(token_ids) - 1)
    sequence = TrainSequence(tuple(token_ids), 1, answers, answers, answers, False, 0)
    score(learner, packed([sequence], packed_tokens=256, num_bins_multiple=1), temperature=1.0)
    return seen[0].numpy()


def replayed(
    grid: RankGrid, *, run_dir: str, losses: dict[str, Any], segment: int
) -> list[dict[str, Any]]:
    """Records of a replay on this grid, which need not be the run's."""
    paths = RunPaths(Path(run_dir))
    plan = read_plan(paths.plan)
    layout = plan.layout.model_copy(update={"learner": grid.layout})
    learner = build_learner(replace(plan, layout=layout), grid)
    run = Recording(plan, paths, learner, References(learner, plan, paths, {}, is_replay=True))
    options = TypeAdapter(Losses).validate_json(json.dumps(losses))
    return [asdict(step) for step in replay(run, options, segment=segment)]
