"""A learner's rank that a test may spoil, in the place of ``e3mega.learner.worker``.

A file ``spoilt.json`` of the run folder, read at the start, says what becomes NaN at which step.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from e3mega.learner import worker
from e3mega.rollout.whole_file import text_if_there

NAME = "decoder.layers.1.mlp.linear_fc2.weight"
MODULE = "tests.e2e.spoilt_learner"


class Part(Enum):
    """What is spoilt."""

    GRADIENT = "gradient"
    WEIGHTS = "weights"


@dataclass(frozen=True)
class Spoilt:
    """Example: ``Spoilt(Part.WEIGHTS.value, 9)``."""

    part: str
    step: int


def spoil(run_dir: Path, spoilt: Spoilt) -> None:
    """Have the next attempt's learner spoilt so."""
    (run_dir / "spoilt.json").write_text(json.dumps(asdict(spoilt)))


def mend(run_dir: Path) -> None:
    """Have it do its work."""
    (run_dir / "spoilt.json").unlink()


def install(spoilt: Spoilt) -> None:
    """Spoil every rank at the step."""
    import torch

    from e3mega.learner import commands

    original = commands.train_step

    def train_step(learner: Any, batch: Any, *rest: Any, **options: Any) -> dict[str, float]:
        parameter = learner.named_parameters()[NAME]
        is_due = batch.step == spoilt.step
        if is_due and spoilt.part == Part.GRADIENT.value:
            parameter.register_hook(lambda gradient: torch.full_like(gradient, float("nan")))
        metrics = original(learner, batch, *rest, **options)
        if is_due and spoilt.part == Part.WEIGHTS.value:
            parameter.data.view(-1)[-1] = float("nan")
        return metrics

    commands.train_step = train_step


if __name__ == "__main__":
    text = text_if_there(Path(sys.argv[1]) / "spoilt.json")
    if text:
        install(Spoilt(**json.loads(text)))
    worker.main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
