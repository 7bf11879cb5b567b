"""A run whose stages have other grids: the learner's job re-shards and trains on as one grid."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from e3mega.families.hf_config import hf_config
from e3mega.plan.jobs import NUM_RANKS, SEGMENT
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import plan_to_json
from e3mega.rollout.batch_file import write_batch
from e3mega.rollout.channel import CommandSender
from e3mega.rollout.records import Command, CommandKind, Reply
from e3mega.spec.schema.layout import LearnerLayout
from tests.integration.segment_jobs import STEPS_PER_STAGE, recorded_batch, three_stage_plan
from tests.learner_cases import tiny_model
from tests.warm_parent import WarmParent


def test_tp2_then_dp2_then_one_rank_has_the_losses_of_one_rank(
    tmp_path: Path, warm_parent: WarmParent
) -> None:
    """The boundary lies within Adam's memory: a lost moment would show in the next loss."""
    straight = warm_parent.run(LearnerLayout(), "tests.integration.segment_jobs:train_straight")[0]
    plan = three_stage_plan()
    paths = RunPaths(tmp_path / "run")
    paths.model_dir.mkdir(parents=True)
    (paths.model_dir / "config.json").write_text(json.dumps(hf_config(tiny_model())))
    paths.plan.write_text(plan_to_json(plan))
    job = subprocess.Popen(
        [
            *(sys.executable, "-m", "e3mega.learner.segments", str(paths.run_dir), "0"),
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1"),
            *(f"--nproc-per-node={NUM_RANKS}", "--max-restarts=0", "--rdzv-backend=c10d"),
            *("--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"),
            *("-m", "e3mega.learner.worker", str(paths.run_dir), "0", SEGMENT),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    losses: list[float] = []

    def send(sender: CommandSender, kind: CommandKind, **values: object) -> Reply:
        command = Command(sender.next_index, kind, version=len(losses), **values)  # type: ignore  # by kind
        return asyncio.run(
            sender.send(command, deadline_s=180, is_alive=lambda: job.poll() is None)
        )

    for stage in plan.stages:
        sender = CommandSender(paths.attempt_commands(0, stage.segment))
        for stage_step in range(STEPS_PER_STAGE):
            path = paths.batch(stage.name, len(losses))
            write_batch(path, recorded_batch(len(losses)))
            reply = send(
                sender,
                CommandKind.TRAIN,
                stage=stage.name,
                stage_step=stage_step,
                batch_files=(str(path.relative_to(paths.run_dir)),),
            )
            losses.append(reply.steps[0]["loss"])
        send(sender, CommandKind.CHECKPOINT, stage=stage.name, loop_state="{}")
        send(sender, CommandKind.STOP)
    assert job.wait(60) == 0
    assert losses == pytest.approx(straight, rel=1e-5, abs=1e-6)
    assert len({round(loss, 6) for loss in losses}) > 6, "the losses differ from step to step"
