"""What the ranks of a forked grid do in the learner's tests; see ``tests.warm_parent``."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e3mega.learner.micro_batch import RoundScores
from e3mega.learner.step import own_logprobs, score, train_step
from e3mega.mcore.build import LearnerModel, build_learner
from e3mega.mcore.parallel import RankGrid
from e3mega.objective.options import LossOptions
from e3mega.plan.planfile import Plan
from e3mega.rollout.batch import PackedBatch
from e3mega.weights.load import folder_reader, load_start, load_weights
from e3mega.weights.source import MegatronWeightSource
from tests.family_cases import family_model
from tests.learner_cases import packed, random_sequences, tiny_model, tiny_plan

SUPERVISED: dict[str, Any] = {"advantage": {"kind": "constant"}, "ratio": {"kind": "none"}}


def start(
    grid: RankGrid,
    loss: dict[str, Any] | None = None,
    *,
    ties_embeddings: bool = True,
    family: str = "",
) -> tuple[Plan, LearnerModel]:
    """The tiny plan's learner with its seeded random weights; of a case of ``family_cases`` if
    one is named."""
    options = LossOptions.model_validate_json(json.dumps(loss or {}))
    tiny = tiny_model(ties_embeddings=ties_embeddings)
    model = family_model(family) if family else tiny
    plan = tiny_plan(grid.layout, model=model, loss=options)
    learner = build_learner(plan, grid)
    load_start(learner, seed=plan.seed)
    return plan, learner


def train(
    grid: RankGrid,
    *,
    loss: dict[str, Any],
    num_steps: int,
    steps_per_round: int = 1,
    family: str = "",
    num_bins_multiple: int = 4,
) -> dict[str, Any]:
    """Train on recorded batches; metrics of every step and a digest of this rank's weights."""
    plan, learner = start(grid, loss, family=family)
    stage = plan.stages[0]
    advantage = 1.0 if loss == SUPERVISED else None
    steps: list[dict[str, float]] = []
    for first in range(0, num_steps, steps_per_round):
        numbers = range(first, first + steps_per_round)
        batches = [recorded(step, advantage, num_bins_multiple) for step in numbers]
        old = [
            RoundScores(own_logprobs(learner, batch, temperature=stage.generation.temperature))
            if steps_per_round > 1
            else RoundScores()
            for batch in batches
        ]
        for step, batch, known in zip(numbers, batches, old, strict=True):
            steps.append(train_step(learner, batch, stage, stage_step=step, known=known))
        learner.gather_parameters()
    return {"steps": steps, "digest": digest(learner)}


def recorded(step: int, advantage: float | None, num_bins_multiple: int = 4) -> PackedBatch:
    """The batch of a step; four bins are shared by every grid but one of three."""
    sequences = random_sequences(12, seed=step, advantage=advantage)
    return packed(sequences, step=step, num_bins_multiple=num_bins_multiple)


def digest(learner: LearnerModel) -> str:
    """SHA-256 of the bits of this rank's weights."""
    value = hashlib.sha256()
    for name, parameter in sorted(learner.named_parameters().items()):
        value.update(name.encode() + parameter.detach().cpu().float().numpy().tobytes())
    return value.hexdigest()


def one_step(grid: RankGrid, *, packed_tokens: int) -> dict[str, float]:
    """One supervised step over the same sequences, packed to a length."""
    plan, learner = start(grid, SUPERVISED)
    batch = packed(random_sequences(9, seed=3), packed_tokens=packed_tokens, num_bins_multiple=1)
    return train_step(learner, batch, plan.stages[0], stage_step=3)


def stream(grid: RankGrid, *, ties_embeddings: bool) -> list[tuple[str, Any]]:
    """What the weight source yields on this rank, as numpy arrays."""
    _, learner = start(grid, ties_embeddings=ties_embeddings)
    source = MegatronWeightSource(learner)
    found = [(name, None if value is None else value.numpy()) for name, value in source]
    assert [name for name, _ in found] == [meta.name for meta in source.metadata()]
    shapes = [meta.shape for meta in source.metadata()]
    assert not grid.is_main or [value.shape for _, value in found] == shapes
    return found


def write_hf_model(grid: RankGrid, *, folder: str, ties_embeddings: bool) -> Any:
    """Write a random transformers model; returns its log-probabilities of ``reference_batch``."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from e3mega.families.hf_config import hf_config

    torch.manual_seed(5)
    config = Qwen3Config(**hf_config(tiny_model(ties_embeddings=ties_embeddings)))
    model = Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0.0, 0.1)
    model.save_pretrained(folder)
    batch = reference_batch()
    logprobs_NT = np.zeros(batch.tokens_NT.shape, np.float32)
    for row in range(len(logprobs_NT)):
        for segment in range(batch.segments_NT[row].max() + 1):
            at = np.flatnonzero(batch.segments_NT[row] == segment)
            tokens = torch.from_numpy(batch.tokens_NT[row, at].astype(np.int64))
            if not tokens.any():
                continue
            with torch.no_grad():
                logits = model(tokens[None]).logits[0] / TEMPERATURE
            table = logits.log_softmax(-1)[:-1]
            logprobs_NT[row, at[1:]] = table.gather(1, tokens[1:, None])[:, 0].numpy()
    return logprobs_NT


TEMPERATURE = 0.7


def reference_batch() -> PackedBatch:
    """Sequences to score."""
    return packed(random_sequences(11, seed=7))


def score_hf_model(grid: RankGrid, *, folder: str, ties_embeddings: bool) -> Any:
    """Log-probabilities of ``reference_batch`` under the weights of an HF folder, on rank 0."""
    plan = tiny_plan(grid.layout, model=tiny_model(ties_embeddings=ties_embeddings))
    learner = build_learner(plan, grid)
    load_weights(learner, folder_reader(Path(folder)))
    return score(learner, reference_batch(), temperature=TEMPERATURE)


def leak(grid: RankGrid) -> tuple[float, float]:
    """Largest embedding gradient of tokens that train, and of tokens of other sequences only."""
    plan, learner = start(grid, SUPERVISED, ties_embeddings=False)
    sequences = random_sequences(6, seed=2)
    low = [
        type(sequence)(
            tuple(1 + token % 31 for token in sequence.token_ids),
            sequence.num_prompt_tokens,
            (1.0,) * len(sequence.loss_mask),
            sequence.rollout_logprobs,
            sequence.loss_mask,
            True,
            sequence.group,
        )
        for sequence in sequences[:3]
    ]
    high = [
        type(sequence)(
            tuple(32 + token % 32 for token in sequence.token_ids),
            sequence.num_prompt_tokens,
            (1.0,) * len(sequence.loss_mask),
            sequence.rollout_logprobs,
            (0.0,) * len(sequence.loss_mask),
            True,
            sequence.group,
        )
        for sequence in sequences[3:]
    ]
    mixed = [low[0], high[0], low[1], high[1], low[2], high[2]]
    batch = packed(mixed, packed_tokens=256, num_bins_multiple=1)
    assert len(batch.tokens_NT) == 1, "all sequences stand in one bin"
    train_step(learner, batch, plan.stages[0], stage_step=0)
    embedding: Any = learner.named_parameters()["embedding.word_embeddings.weight"]
    gradient = embedding.main_grad.abs()
    return float(gradient[1:32].max()), float(gradient[32:].max())


def broken(grid: RankGrid) -> str:
    """The message of a step whose loss is not finite."""
    from e3mega.errors import JobError

    plan, learner = start(grid, SUPERVISED)
    batch = packed(random_sequences(4, seed=1))
    batch.advantages_NT[batch.mask_NT > 0] = np.inf
    try:
        train_step(learner, batch, plan.stages[0], stage_step=0)
    except JobError as error:
        return str(error)
    return ""
