"""What the ranks of a forked grid do in the tests of the optimizer; see ``tests.warm_parent``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from e3mega.checkpoint.writer import CheckpointWriter
from e3mega.errors import JobError
from e3mega.families.geometry import Family, ModelOptions
from e3mega.learner.commands import Session, run_command
from e3mega.learner.reference import References
from e3mega.learner.step import train_step
from e3mega.learner.transfer import Transfer
from e3mega.mcore.build import LearnerModel, build_learner
from e3mega.mcore.moments import distributed_optimizers
from e3mega.mcore.parallel import RankGrid
from e3mega.objective.options import LossOptions
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.records import Command, CommandKind
from e3mega.spec.schema.optimizer import Moments, OptimizerOptions
from e3mega.weights.load import load_start
from e3mega.weights.source import MegatronWeightSource
from tests.integration.grid_jobs import digest, start
from tests.learner_cases import packed, random_sequences, tiny_plan

SUPERVISED = {"advantage": {"kind": "constant"}, "ratio": {"kind": "none"}}


def batch_of(step: int) -> PackedBatch:
    """A supervised batch."""
    return packed(random_sequences(12, seed=step, advantage=1.0), step=step)


def with_optimizer(stage: StagePlan, **values: Any) -> StagePlan:
    """The stage with another optimizer section."""
    return replace(stage, optimizer=OptimizerOptions(**values))


def decay(grid: RankGrid, *, family: str) -> dict[str, float]:
    """By parameter, the factor of a step whose gradient is zero: only the decay acts."""
    plan, learner = start(grid, SUPERVISED, family=family)
    for name, parameter in learner.named_parameters().items():
        if name.endswith(".bias"):
            parameter.data.fill_(0.5)
    learner.optimizer.reload_model_params()
    before = {name: value.detach().clone() for name, value in learner.named_parameters().items()}
    stage = with_optimizer(plan.stages[0], learning_rate=0.1, weight_decay=0.5)
    batch = batch_of(0)
    batch.advantages_NT[:] = 0.0
    train_step(learner, batch, stage, stage_step=0)
    return {
        name: float((value.detach() / before[name]).nanmean())
        for name, value in learner.named_parameters().items()
    }


def clip(grid: RankGrid, *, clip_grad_norm: float) -> tuple[float, float]:
    """The norm that a first step tells, and the square of what this rank's moments hold of it."""
    plan, learner = start(grid, SUPERVISED)
    stage = with_optimizer(plan.stages[0], clip_grad_norm=clip_grad_norm, beta1=0.75)
    found = train_step(learner, batch_of(0), stage, stage_step=0)
    moments = _moments(learner)
    return found["grad_norm"], sum(float(m.double().square().sum()) for m in moments) / 0.25**2


def _moments(learner: LearnerModel) -> list[torch.Tensor]:
    return [
        state["exp_avg"]
        for optimizer in distributed_optimizers(learner.optimizer)
        for state in optimizer.optimizer.state.values()
    ]


def second_stage(grid: RankGrid, *, moments: str) -> dict[str, Any]:
    """Digests after one step of a second stage: with the first one's moments, and on a new one."""
    plan, learner = start(grid, SUPERVISED)
    stage = with_optimizer(plan.stages[0], learning_rate=1e-2)
    for step in range(3):
        train_step(learner, batch_of(step), stage, stage_step=step)
    fresh = build_learner(plan, grid)
    values = learner.named_parameters()
    with torch.no_grad():
        for name, parameter in fresh.named_parameters().items():
            parameter.copy_(values[name])
    fresh.optimizer.reload_model_params()
    later = with_optimizer(stage, learning_rate=1e-2, moments=Moments(moments))
    for step in range(3, 5):
        train_step(learner, batch_of(step), later, stage_step=step - 3)
        train_step(fresh, batch_of(step), stage, stage_step=step - 3)
    return {"second": digest(learner), "fresh": digest(fresh)}


def burst(grid: RankGrid, *, name: str, value: float) -> str:
    """The message of a step in which the gradient of one parameter is ``value``."""
    plan, learner = start(grid, SUPERVISED)
    held = {weight.name: parameter for weight, parameter in learner.held_weights()}
    if name in held:
        held[name].register_hook(lambda gradient: torch.full_like(gradient, value))
    try:
        train_step(learner, batch_of(0), plan.stages[0], stage_step=0)
    except JobError as error:
        return str(error)
    return ""


def spoilt(grid: RankGrid, *, name: str, folder: str, kind: str) -> str:
    """What a checkpoint or a sync says after a weight became NaN in the rank that holds it."""
    plan, learner = start(grid, SUPERVISED)
    held = {weight.name: parameter for weight, parameter in learner.held_weights()}
    if name in held:
        held[name].data.view(-1)[-1] = float("nan")
    paths = RunPaths(Path(folder))
    session = Session(
        plan=plan,
        paths=paths,
        learner=learner,
        version=3,
        steps={},
        transfer=Transfer(MegatronWeightSource(learner), plan, paths, is_main=grid.is_main),
        writer=CheckpointWriter(learner, paths),
        metrics=None,
        references=References(learner, plan, paths, {}),
    )
    values = {"stage": "easy", "loop_state": "{}"} if kind == "checkpoint" else {"servers": (0,)}
    command = Command(0, CommandKind(kind), version=3, **values)
    try:
        run_command(session, command, lambda: 0.0)
    except JobError as error:
        return str(error)
    return ""


def wide(grid: RankGrid, *, is_nudged: bool = False) -> dict[str, Any]:
    """Two steps of a model wide enough for every thread, in deterministic mode.

    Where ``is_nudged``, one weight of one rank starts with another last bit.
    """
    assert torch.are_deterministic_algorithms_enabled()
    model = ModelOptions(
        family=Family.QWEN3,
        num_layers=2,
        hidden_size=256,
        num_heads=4,
        num_kv_heads=4,
        head_dim=64,
        ffn_size=768,
        vocab_size=2048,
        max_context_tokens=512,
    )
    plan = tiny_plan(
        grid.layout,
        model=model,
        loss=LossOptions.model_validate_json(json.dumps(SUPERVISED)),
    )
    learner = build_learner(plan, grid)
    load_start(learner, seed=1)
    if is_nudged and grid.place.world_rank == grid.process.world_size - 1:
        name = "decoder.layers.1.mlp.linear_fc2.weight"
        learner.named_parameters()[name].data.view(torch.int32)[0, 0] ^= 1
    learner.optimizer.reload_model_params()
    rng = np.random.default_rng(1)
    losses: list[float] = []
    for step in range(2):
        batch = packed(
            random_sequences(36, seed=step, advantage=1.0),
            step=step,
            packed_tokens=512,
            num_bins_multiple=4,
        )
        batch.tokens_NT[batch.tokens_NT > 0] = rng.integers(
            1, model.vocab_size, int((batch.tokens_NT > 0).sum())
        )
        losses.append(train_step(learner, batch, plan.stages[0], stage_step=step)["loss"])
    return {"losses": losses, "digest": digest(learner), "busy_threads": _busy_threads()}


def _busy_threads() -> int:
    """Threads of this process with a tenth of the busiest one's time: those that compute."""
    seconds = [thread.user_time for thread in psutil.Process().threads()]
    return sum(each > max(seconds) / 10 for each in seconds)
