"""The loops that ``bench_learner`` times, all over the same sequences and the same model.

Each is prepared once and then gives a function that takes one optimizer step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.tensor_parallel.cross_entropy import vocab_parallel_cross_entropy

from e3mega.families.geometry import ModelOptions
from e3mega.families.hf_config import hf_config
from e3mega.families.registry import weights
from e3mega.learner.step import train_step
from e3mega.mcore.attention import packed_sequences
from e3mega.mcore.build import LearnerModel, build_model
from e3mega.mcore.config import DTYPES
from e3mega.mcore.parallel import RankGrid
from e3mega.plan.compile import compile_plan
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.bins import bin_rules
from e3mega.rollout.packing import pack
from e3mega.rollout.records import TrainSequence
from e3mega.spec.files import LIBRARY
from e3mega.spec.resolve import resolve_spec
from e3mega.spec.schema.layout import LearnerLayout
from e3mega.spec.schema.optimizer import OptimizerOptions
from e3mega.weights.load import load_weights, random_reader

Step = Callable[[], float]
"""Takes one optimizer step; gives its loss."""

# Shape letters: B sequences of a padded batch, T tokens of a bin or a padded sequence.


@dataclass(frozen=True, slots=True)
class Work:
    """What every loop trains on."""

    model: ModelOptions
    sequences: tuple[TrainSequence, ...]
    packed_tokens: int

    @property
    def num_tokens(self) -> int:
        """Tokens of one step, padding not counted."""
        return sum(len(sequence.token_ids) for sequence in self.sequences)

    def batch(self) -> PackedBatch:
        """The sequences in bins, for one data-parallel rank."""
        return pack(
            self.sequences,
            normalizer=float(sum(sum(each.loss_mask) for each in self.sequences)),
            rules=bin_rules(self.model, LearnerLayout(), self.packed_tokens),
            stage="bench",
            step=0,
            round=0,
            version=0,
            lag=0,
        )

    def padded(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The sequences in their order, as batches of at most a bin's tokens, padding included:
        token ids and the mask of real tokens, each (B, T)."""
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        rows: list[Sequence[int]] = []
        for sequence in self.sequences:
            longest = max([len(sequence.token_ids), *map(len, rows)])
            if rows and longest * (len(rows) + 1) > self.packed_tokens:
                found.append(_padded(rows))
                rows = []
            rows.append(sequence.token_ids)
        return [*found, _padded(rows)]


def random_work(
    model: ModelOptions, *, num_tokens: int, longest: int, packed_tokens: int, seed: int
) -> Work:
    """Sequences of random tokens, lengths even between a quarter of the longest and it."""
    rng = np.random.default_rng(seed)
    sequences: list[TrainSequence] = []
    total = 0
    while total < num_tokens:
        length = int(rng.integers(max(2, longest // 4), longest + 1))
        sequences.append(
            TrainSequence(
                token_ids=tuple(int(x) for x in rng.integers(1, model.vocab_size, length)),
                num_prompt_tokens=1,
                advantages=(1.0,) * (length - 1),
                rollout_logprobs=(0.0,) * (length - 1),
                loss_mask=(1.0,) * (length - 1),
                is_correct=True,
                group=len(sequences),
            )
        )
        total += length
    return Work(model, tuple(sequences), packed_tokens)


def learner(work: Work, grid: RankGrid) -> Step:
    """e3mega's learner: its step, its metrics, its chunked head."""
    model, batch, stage = _built(work, grid), work.batch(), _stage()
    return lambda: train_step(model, batch, stage, stage_step=1)["loss"]


def megatron(work: Work, grid: RankGrid) -> Step:
    """Megatron-Core's schedule, LM head and cross entropy over the learner's layers and bins, its
    optimizer, and nothing of ours around them."""
    model, batch = _built(work, grid), work.batch()
    heads: Any = model.chunks[-1].module
    # The learner hands the LM head's input over; here it makes logits, as Megatron's does.
    heads.output_layer.forward = partial(type(heads.output_layer).forward, heads.output_layer)
    bins = [_bin(model, batch, number) for number in range(len(batch.tokens_NT))]

    def loss_of(targets: torch.Tensor, mask: torch.Tensor, logits: torch.Tensor) -> Any:
        losses = vocab_parallel_cross_entropy(logits[0].float(), targets)
        loss = (losses * mask).sum() / batch.normalizer
        return loss, torch.tensor(0, dtype=torch.int), {"loss": loss.detach()}

    def forward_step(bins: Any, chunk: Any) -> Any:
        tokens, positions, packed, targets, mask = next(bins)
        logits = chunk(tokens, positions, None, packed_seq_params=packed)
        return logits, partial(loss_of, targets, mask)

    def step() -> float:
        for chunk in model.chunks:
            chunk.zero_grad_buffer()
        model.optimizer.zero_grad()
        kept = get_forward_backward_func()(
            forward_step_func=forward_step,
            data_iterator=iter(bins),
            model=list[torch.nn.Module](model.chunks),
            num_microbatches=len(bins),
            seq_length=work.packed_tokens,
            micro_batch_size=1,
            forward_only=False,
        )
        model.optimizer.step()
        return sum(float(each["loss"]) for each in kept)

    return step


def transformers_packed(work: Work, grid: RankGrid) -> Step:
    """transformers' model with torch's AdamW over the same bins, attending within sequences."""
    batch = work.batch()
    model, optimizer = _transformers(work, grid)
    bins = [_bin(None, batch, number) for number in range(len(batch.tokens_NT))]

    def losses() -> Any:
        for tokens, positions, _, targets, mask in bins:
            moved = [each.to(grid.device) for each in (tokens, positions, targets, mask)]
            logits = model(input_ids=moved[0], position_ids=moved[1], use_cache=False).logits[0]
            lost = torch.nn.functional.cross_entropy(logits.float(), moved[2], reduction="none")
            yield (lost * moved[3]).sum() / batch.normalizer

    return lambda: _torch_step(model, optimizer, losses())


def transformers_padded(work: Work, grid: RankGrid) -> Step:
    """The same with sequences side by side, padded to the longest of their batch."""
    return _transformers_rows(work, grid, work.padded())


def transformers_unpadded(work: Work, grid: RankGrid) -> Step:
    """The same with every sequence by itself: no padding, and nothing to mask."""
    return _transformers_rows(work, grid, [_padded([each.token_ids]) for each in work.sequences])


def _transformers_rows(
    work: Work, grid: RankGrid, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> Step:
    model, optimizer = _transformers(work, grid)
    batches = [(tokens.to(grid.device), real.to(grid.device)) for tokens, real in batches]
    normalizer = sum(float(real[:, 1:].sum()) for _, real in batches)

    def losses() -> Any:
        for tokens, real in batches:
            mask = real if len(real) > 1 else None
            logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1]
            lost = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
            )
            yield (lost * real[:, 1:].flatten()).sum() / normalizer

    return lambda: _torch_step(model, optimizer, losses())


def products(work: Work, grid: RankGrid) -> Step:
    """The model's matrix products alone, forward and backward, for the tokens of every bin: no
    loop over these bins can take less time than they."""
    model = work.model
    assert model.experts is None, "the products of experts are not counted"
    shapes = [
        tensor.shape
        for weight in weights(model)
        for tensor in weight.hf
        if len(tensor.shape) == 2 and "embed" not in tensor.name and "lm_head" not in tensor.name
    ]
    ones = partial(torch.ones, dtype=DTYPES[model.precision], device=grid.device)
    matrices = [ones(*shape) for shape in [*shapes, (model.vocab_size, model.hidden_size)]]
    counts = [int((tokens_T != 0).sum()) for tokens_T in work.batch().tokens_NT]
    inputs = {(count, width): ones(count, width) for count in counts for _, width in shapes}

    def step() -> float:
        for count in counts:
            for matrix_OI in matrices:
                input_TI = inputs[count, matrix_OI.shape[1]]
                output_TO = input_TI @ matrix_OI.T
                _ = output_TO @ matrix_OI
                _ = output_TO.T @ input_TI
        return 0.0

    return step


CONTENDERS: dict[str, Callable[[Work, RankGrid], Step]] = {
    "e3mega learner": learner,
    "Megatron-Core, bare": megatron,
    "transformers, packed": transformers_packed,
    "transformers, padded": transformers_padded,
    "transformers, unpadded": transformers_unpadded,
    "matrix products alone": products,
}


def _padded(rows: list[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    real = torch.zeros(len(rows), longest, dtype=torch.long)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = torch.tensor(ids)
        real[row, : len(ids)] = 1
    return tokens, real


def _built(work: Work, grid: RankGrid) -> LearnerModel:
    model = build_model(work.model, OptimizerOptions(learning_rate=1e-4), grid)
    load_weights(model, random_reader(model, seed=1))
    return model


def _bin(learner: LearnerModel | None, batch: PackedBatch, number: int) -> tuple[Any, ...]:
    """Tokens, positions, what attention needs, targets and mask of the used part of a bin."""
    used = int((batch.tokens_NT[number] != 0).sum())
    tokens = torch.from_numpy(batch.tokens_NT[number, :used].astype(np.int64))
    positions = torch.from_numpy(batch.positions_NT[number, :used].astype(np.int64))
    mask = torch.from_numpy(batch.mask_NT[number, :used]).roll(-1)
    packed, device = None, torch.device("cpu")
    if learner is not None:
        device = learner.grid.device
        packed = packed_sequences(positions, rope=learner.rope, device=device, dtype=learner.dtype)
    moved = [each.to(device) for each in (tokens[None], positions[None], tokens.roll(-1), mask)]
    return moved[0], moved[1], packed, moved[2], moved[3]


def _transformers(work: Work, grid: RankGrid) -> tuple[Any, torch.optim.Optimizer]:
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = hf_config(work.model)
    config = AutoConfig.for_model(str(settings.pop("model_type")), **settings)
    dtype = getattr(torch, work.model.precision.value)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    model = model.to(grid.device).train()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95))


def _torch_step(model: Any, optimizer: torch.optim.Optimizer, losses: Any) -> float:
    optimizer.zero_grad()
    total = 0.0
    for loss in losses:
        loss.backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return total


def _stage() -> StagePlan:
    """A supervised stage as a shipped run plans it; its loss is the others' cross entropy."""
    plan = compile_plan(resolve_spec(LIBRARY / "runs" / "quickstart.yaml").options)
    return plan.stages[0]
