"""The learner as a torchrun job: commands in, replies out, resumed bit for bit."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from e3mega.errors import JobError
from e3mega.families.hf_config import hf_config
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import plan_to_json
from e3mega.rollout.batch_file import write_batch
from e3mega.rollout.channel import CommandSender
from e3mega.rollout.records import Command, CommandKind, Reply
from e3mega.spec.schema.layout import LearnerLayout
from tests.learner_cases import packed, random_sequences, tiny_model, tiny_plan

NUM_STEPS = 4


class Job:
    """A learner of two ranks on recorded batches."""

    def __init__(self, paths: RunPaths, attempt: int) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", "2", "-m", "e3mega.learner.worker"),
                *(str(paths.run_dir), str(attempt), "0"),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._sender = CommandSender(paths.attempt_commands(attempt, 0))

    def send(self, kind: CommandKind, **values: object) -> Reply:
        """Send the next command and wait for its reply."""
        command = Command(self._sender.next_index, kind, **values)  # type: ignore  # by kind
        return asyncio.run(
            self._sender.send(command, deadline_s=120, is_alive=lambda: self.process.poll() is None)
        )

    def train(self, paths: RunPaths, step: int) -> Reply:
        """Train on one recorded batch."""
        file = str(paths.batch("easy", step).relative_to(paths.run_dir))
        return self.send(
            CommandKind.TRAIN, stage="easy", stage_step=step, batch_files=(file,), version=step
        )

    def workers(self) -> list[psutil.Process]:
        """The ranks, torchrun apart."""
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """A run folder with a plan, recorded batches and a model folder."""
    paths = RunPaths(tmp_path / "run")
    paths.model_dir.mkdir(parents=True)
    (paths.model_dir / "config.json").write_text(json.dumps(hf_config(tiny_model())))
    paths.plan.write_text(plan_to_json(tiny_plan(LearnerLayout(tp=2))))
    for step in range(NUM_STEPS):
        batch = packed(random_sequences(12, seed=step), step=step)
        write_batch(paths.batch("easy", step), batch)
    return paths


def test_a_killed_learner_goes_on_from_its_checkpoint_bit_for_bit(paths: RunPaths) -> None:
    first = Job(paths, 0)
    for step in range(2):
        assert first.train(paths, step).steps[0]["tokens"] > 0
    first.send(CommandKind.CHECKPOINT, stage="easy", version=2, loop_state='{"cursor": 3}')
    straight = [first.train(paths, step).steps[0] for step in range(2, NUM_STEPS)]
    first.send(CommandKind.EXPORT, version=NUM_STEPS)
    exported = load_file(paths.export / "model.safetensors")
    file = str(paths.batch("easy", 0).relative_to(paths.run_dir))
    with pytest.raises(JobError, match="is for version 3"):
        first.send(CommandKind.TRAIN, stage="easy", batch_files=(file,), version=3)
    assert first.process.wait(60) != 0, "an error ends the job"

    second = Job(paths, 1)
    resumed = [second.train(paths, step).steps[0] for step in range(2, NUM_STEPS)]
    for found, wanted in zip(resumed, straight, strict=True):
        assert {**found, "seconds": 0} == {**wanted, "seconds": 0}
    second.send(CommandKind.EXPORT, version=NUM_STEPS)
    for name, value in load_file(paths.export / "model.safetensors").items():
        assert np.array_equal(value, exported[name]), name
    second.send(
        CommandKind.SCORE, stage="easy", batch_files=(file,), output_file="scores.safetensors"
    )
    scores_NT = load_file(paths.run_dir / "scores.safetensors")["logprobs"]
    batch = packed(random_sequences(12, seed=0))
    assert scores_NT.shape == batch.tokens_NT.shape
    assert (scores_NT[batch.mask_NT > 0] < 0).all()
    second.send(CommandKind.STOP)
    assert second.process.wait(60) == 0


def test_ranks_die_with_their_launcher(paths: RunPaths) -> None:
    job = Job(paths, 0)
    job.train(paths, 0)
    ranks = job.workers()
    assert len(ranks) == 2
    os.kill(job.process.pid, signal.SIGKILL)
    job.process.wait(10)
    deadline = time.monotonic() + 20
    while any(rank.is_running() and rank.status() != "zombie" for rank in ranks):
        assert time.monotonic() < deadline, "a rank outlived its launcher"
        time.sleep(0.05)
