"""A fingerprint changes with what decides the outcome, and with nothing else."""

from pathlib import Path

import pytest

from e3mega.spec.fingerprint import run_fingerprint, stage_fingerprints
from e3mega.spec.schema.run import RunOptions
from tests.spec_cases import resolved

RUN = "include: [runs/quickstart]\n"


def options(tmp_path: Path, text: str = RUN, *sets: str) -> RunOptions:
    return resolved(tmp_path, text, sets=sets).options


def test_comments_key_order_and_equal_values_do_not_matter(tmp_path: Path) -> None:
    one = options(tmp_path, RUN + "seed: 3\nrollout: {packed_tokens: 2048}\n")
    two = options(tmp_path, "rollout: {packed_tokens: 2k} # same\nseed: 3\n" + RUN)
    assert run_fingerprint(one) == run_fingerprint(two)


@pytest.mark.parametrize("change", ["name=other", "logging.num_report_rollouts=5"])
def test_names_and_logging_are_not_covered(tmp_path: Path, change: str) -> None:
    one, two = options(tmp_path), options(tmp_path, RUN, change)
    assert one != two
    assert run_fingerprint(one) == run_fingerprint(two)
    assert stage_fingerprints(one) == stage_fingerprints(two)


CHANGES = {
    "seed=2": (0, 1, 2),
    "model.num_layers=2": (0, 1, 2),
    "layout.learner.tp=1": (0, 1, 2),
    "layout.generation.threads_per_replica=1": (1, 2),
    "generation.temperature=0.9": (1, 2),
    "loss.ratio.clip_high=0.28": (1, 2),
    "optimizer.learning_rate=1e-5": (1, 2),
    "task.held_out_frac=0.4": (0, 1, 2),
    "evaluation.num_problems=256": (0, 1, 2),
    "curriculum.stages.warmup.loss.entropy.coefficient=0.1": (0, 1, 2),
    "curriculum.stages.easy.exit.steps=30": (1, 2),
    "curriculum.stages.hard.budget.kappa=1.3": (2,),
    "checkpoint.every_rounds=5": (),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_reaches_its_stages_and_all_after_them(tmp_path: Path, change: str) -> None:
    one, two = options(tmp_path), options(tmp_path, RUN, change)
    assert run_fingerprint(one) != run_fingerprint(two)
    pairs = zip(stage_fingerprints(one), stage_fingerprints(two), strict=True)
    changed = tuple(index for index, (before, after) in enumerate(pairs) if before != after)
    assert changed == CHANGES[change]
