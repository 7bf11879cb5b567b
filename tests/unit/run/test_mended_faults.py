"""Faults that somebody mends: the run ends with their words, and goes on as if there were none.

As in ``test_nothing_is_lost``, the real loop works among fakes under the real supervisor.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from e3mega.plan.planfile import Plan
from tests.unit.run.fake_runs import attempts_of, finish
from tests.unit.run.fault_runs import Started
from tests.unit.run.halted_runs import (
    ROOT,
    Struck,
    assert_nothing_is_lost,
    events,
    halted,
    resume,
    training_plan,
)
from tests.unit.run.training_job import GRADIENT, WEIGHTS

pytestmark = pytest.mark.slow

LOOP = "tests.unit.run.training_job"
SERVER = "tests.unit.run.serving_job"


def served(plan: Plan) -> Plan:
    """The plan with a server that is a process, which the loop asks by its real client."""
    env = {"PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))}
    server, *others = plan.jobs
    *_, loop = plan.jobs
    process = replace(server, argv=("{python}", "-m", SERVER, "{run_dir}"), env=env)
    jobs = (process, *others[:-1], replace(loop, argv=(*loop.argv, "served")))
    return replace(plan, jobs=jobs)


def ended(struck: Struck, words: str) -> None:
    """The run ends by itself, its last line and its record saying so."""
    lines = finish(struck.command)
    assert struck.command.returncode == 1, lines
    assert words in lines[-1], lines
    assert words in str(attempts_of(struck.run_dir)[-1]["reason"])


def goes_on(run_dir: Path, whole: Path, *, has_taken_again: bool = False) -> None:
    code, lines = resume(run_dir)
    assert code == 0, lines
    assert_nothing_is_lost(run_dir, whole, has_taken_again=has_taken_again)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (GRADIENT, "the gradient of layer 3 is nan"),
        (WEIGHTS, "the learner scores canary token 0 with nan"),
    ],
)
def test_a_learner_that_is_not_finite_ends_the_run_and_costs_nothing(
    started: Started, whole: Path, file: str, words: str
) -> None:
    """However often a job may be started again: it would only say so again.

    Of what weights give the canary tells, when the step that spoilt them was taken and no
    checkpoint yet.
    """
    struck = halted(started, training_plan(max_restarts=3))
    spoilt = started.run_dir / file
    spoilt.touch()
    struck.go_on()
    ended(struck, words)
    assert len(attempts_of(started.run_dir)) == 1
    spoilt.unlink()
    goes_on(started.run_dir, whole, has_taken_again=file == WEIGHTS)


ILL = {"garbage": ("", "is no completion"), "hangs": ("hangs ", "no answer within 10 s")}
"""What ails a server: words of the file by which it falls ill, and of why it is given up."""


@pytest.mark.parametrize("ill", ILL)
def test_a_server_that_is_given_up_costs_nothing(started: Started, whole: Path, ill: str) -> None:
    how, words = ILL[ill]
    struck = halted(started, served(training_plan()))
    (started.run_dir / "ill").write_text(f"{how}all")
    struck.go_on()
    ended(struck, "job generation_0 was given up: generation_0: ")
    assert words in str(attempts_of(started.run_dir)[-1]["reason"])
    (started.run_dir / "ill").unlink()
    goes_on(started.run_dir, whole)


@pytest.mark.parametrize("ill", ILL)
def test_a_server_that_is_given_up_and_started_again_changes_no_batch(
    started: Started, whole: Path, ill: str
) -> None:
    how, words = ILL[ill]
    struck = halted(started, served(training_plan(max_restarts=1)))
    (started.run_dir / "ill").write_text(f"{how}{struck.process(SERVER).pid}")
    struck.go_on()
    lines = finish(struck.command)
    assert struck.command.returncode == 0, lines
    (lost,) = events(started.run_dir, "server_lost")
    assert words in str(lost["reason"])
    assert len(attempts_of(started.run_dir)) == 1
    assert_nothing_is_lost(started.run_dir, whole)


def test_a_key_that_is_changed_while_the_run_goes_costs_nothing(
    started: Started, whole: Path
) -> None:
    """The server has the former key when the learner and the loop begin again."""
    struck = halted(started, served(training_plan(max_restarts=1)))
    key = started.paths.key.read_text()
    started.paths.key.write_text("0" * 64 + "\n")
    struck.kill(LOOP)
    ended(struck, "refuses the run's key; was the key file changed?")
    assert len(attempts_of(started.run_dir)) == 2
    started.paths.key.write_text(key)
    goes_on(started.run_dir, whole)


def test_an_interpreter_that_is_gone_costs_nothing(
    started: Started, whole: Path, tmp_path: Path
) -> None:
    """It is there at first, as one on a disk of the node."""
    python = tmp_path / "python"
    plan = training_plan()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    *others, loop = plan.jobs
    loop = replace(loop, argv=(str(python), *loop.argv[1:]))
    struck = halted(started, replace(plan, jobs=(*others, loop)))
    struck.kill(LOOP)
    ended(struck, "job loop was killed by SIGKILL")
    away = python.rename(tmp_path / "away")
    code, lines = resume(started.run_dir)
    assert code == 1
    words = f"job loop cannot be started: {python}: No such file or directory"
    assert words in lines[-1], lines
    assert words in str(attempts_of(started.run_dir)[-1]["reason"])
    away.rename(python)
    goes_on(started.run_dir, whole)
