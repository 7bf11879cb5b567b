"""Supervised training by transformers and torch alone, for the learner to be compared with."""

import math
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from e3mega.families.hf_config import hf_config
from e3mega.learner.step import train_step
from e3mega.mcore.build import build_learner
from e3mega.mcore.parallel import RankGrid
from e3mega.objective.options import LossOptions
from e3mega.rollout.batch import PackedBatch
from e3mega.spec.schema.optimizer import OptimizerOptions
from e3mega.weights.load import load_start
from e3mega.weights.source import MegatronWeightSource
from tests.family_cases import family_model
from tests.integration.grid_jobs import SUPERVISED, recorded, start
from tests.learner_cases import tiny_plan


def train(grid: RankGrid, *, num_steps: int, family: str) -> list[dict[str, float]]:
    """Loss and gradient norm of every step from the learner's start, sequence by sequence."""
    plan, learner = start(grid, family=family)
    settings = hf_config(learner.model)
    kind = str(settings.pop("model_type"))
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).train()
    own = {name: tensor for name, tensor in MegatronWeightSource(learner) if tensor is not None}
    _fill(model, own)
    options, stage = plan.stages[0].optimizer, plan.stages[0]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.dim() > 1]},
            {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
        weight_decay=options.weight_decay,
    )
    steps: list[dict[str, float]] = []
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(options, step, stage.max_steps)
        optimizer.zero_grad()
        loss = _loss(model, recorded(step, 1.0), stage.generation.temperature)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip_grad_norm)
        optimizer.step()
        steps.append({"loss": float(loss.detach()), "grad_norm": float(norm)})
    return steps


def follow(grid: RankGrid, *, num_steps: int, init_std: float) -> list[dict[str, float]]:
    """The learner's metrics of every step of experts with a small start, and beside them the loss
    and gradient norm of transformers in float64 at the learner's weights before that step."""
    model = family_model("qwen3-moe").model_copy(update={"init_std": init_std})
    loss = LossOptions.model_validate(SUPERVISED, strict=False)
    plan = tiny_plan(grid.layout, model=model, loss=loss)
    learner, stage = build_learner(plan, grid), plan.stages[0]
    load_start(learner, seed=plan.seed)
    settings = hf_config(model)
    kind = str(settings.pop("model_type"))
    other = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **settings),
        dtype=torch.float64,
        experts_implementation="eager",
    )
    steps: list[dict[str, float]] = []
    for step in range(num_steps):
        source = MegatronWeightSource(learner)
        _fill(other, {name: tensor for name, tensor in source if tensor is not None})
        other.zero_grad()
        batch = recorded(step, 1.0)
        value = _loss(other, batch, stage.generation.temperature)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(other.parameters(), float("inf"))
        beside = {"torch_loss": float(value.detach()), "torch_grad_norm": float(norm)}
        steps.append({**train_step(learner, batch, stage, stage_step=step), **beside})
    return steps


def _fill(model: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Copy tensors by their names in a folder; transformers 5 holds the experts of a layer fused
    in memory."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("experts.gate_up_proj"):
                for expert in range(len(parameter)):
                    each = name.removesuffix("gate_up_proj") + f"{expert}."
                    pair = [tensors[f"{each}{kind}_proj.weight"] for kind in ("gate", "up")]
                    parameter[expert].copy_(torch.cat(pair))
            elif name.endswith("experts.down_proj"):
                for expert in range(len(parameter)):
                    each = name.removesuffix("down_proj") + f"{expert}."
                    parameter[expert].copy_(tensors[f"{each}down_proj.weight"])
            else:
                parameter.copy_(tensors[name])


def _rate(options: OptimizerOptions, step: int, max_steps: int) -> float:
    """Linear rise, then half a cosine that ends at the last step."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    share = (step - options.warmup_steps) / max(1, max_steps - 1 - options.warmup_steps)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def _loss(model: Any, batch: PackedBatch, temperature: float) -> torch.Tensor:
    """Minus the mean log-probability of the tokens that train, each sequence by itself."""
    total = torch.zeros(())
    for row in range(len(batch.tokens_NT)):
        for segment in range(batch.segments_NT[row].max() + 1):
            at = np.flatnonzero(batch.segments_NT[row] == segment)
            mask = torch.from_numpy(batch.mask_NT[row, at])
            if not mask.any():
                continue
            tokens = torch.from_numpy(batch.tokens_NT[row, at].astype(np.int64))
            table = (model(tokens[None]).logits[0] / temperature).log_softmax(-1)
            found = table[:-1].gather(1, tokens[1:, None])[:, 0]
            total = total - (mask[1:] * found).sum()
    return total / batch.normalizer
