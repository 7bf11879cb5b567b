"""What the ranks of a forked grid do to compare a family with transformers."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from e3mega.checkpoint.convert import import_hf
from e3mega.checkpoint.sharded import load_checkpoint_weights
from e3mega.learner.logits import bin_logits
from e3mega.learner.step import score
from e3mega.mcore.build import LearnerModel, build_learner, build_model
from e3mega.mcore.parallel import RankGrid
from e3mega.rollout.batch import PackedBatch
from e3mega.spec.schema.optimizer import OptimizerOptions
from e3mega.weights.load import folder_reader, load_weights
from e3mega.weights.source import MegatronWeightSource
from tests.family_cases import VOCAB_SIZE, family_model, half, write_hf_family
from tests.learner_cases import packed, random_sequences, tiny_plan

TEMPERATURE = 0.7


def batch_of_all_tokens(multiple: int) -> PackedBatch:
    """Sequences in which the last rows of the vocabulary occur."""
    batch = packed(random_sequences(11, seed=7), num_bins_multiple=multiple)
    batch.tokens_NT[:, ::7] += (VOCAB_SIZE - 64) * (batch.tokens_NT[:, ::7] > 60)
    return batch


def write(grid: RankGrid, *, root: str, names: list[str]) -> dict[str, Any]:
    """Write a folder for each case; transformers' log-probabilities and logits of the batch."""
    found: dict[str, Any] = {}
    batch = batch_of_all_tokens(4)
    for name in names:
        model = write_hf_family(name, Path(root) / name)
        logprobs_NT = np.zeros(batch.tokens_NT.shape, np.float32)
        logits_NTV = np.zeros((*batch.tokens_NT.shape, VOCAB_SIZE), np.float32)
        for row in range(len(logprobs_NT)):
            for segment in range(batch.segments_NT[row].max() + 1):
                at = np.flatnonzero(batch.segments_NT[row] == segment)
                tokens = torch.from_numpy(batch.tokens_NT[row, at].astype(np.int64))
                if not tokens.any():
                    continue
                with torch.no_grad():
                    logits_NTV[row, at] = model(tokens[None]).logits[0].numpy()
                table = torch.from_numpy(logits_NTV[row, at] / TEMPERATURE).log_softmax(-1)[:-1]
                logprobs_NT[row, at[1:]] = table.gather(1, tokens[1:, None])[:, 0].numpy()
        found[name] = (logprobs_NT, logits_NTV)
    return found


def compare(grid: RankGrid, *, root: str, names: list[str]) -> dict[str, Any]:
    """For each case: our log-probabilities, this rank's whole logits, and what differs.

    The weights come back in fp32, and once more in bfloat16, bit for bit. The folder converted for
    this grid gives the bits of the logits that the folder itself gives.
    """
    found: dict[str, Any] = {}
    for name in names:
        folder = Path(root) / name
        plan = tiny_plan(grid.layout, model=family_model(name))
        learner = build_learner(plan, grid)
        load_weights(learner, folder_reader(folder))
        batch = batch_of_all_tokens(4)
        scores_NT = score(learner, batch, temperature=TEMPERATURE)
        logits = [each.numpy() for each in bin_logits(learner, batch)]
        differing = _differing(MegatronWeightSource(learner), folder, torch.float32)
        converted = bin_logits(_imported(learner, folder), batch)
        same = [np.array_equal(one, two) for one, two in zip(logits, converted, strict=True)]
        differing += [] if all(same) else ["logits of the converted folder"]
        plan = tiny_plan(grid.layout, model=half(family_model(name)))
        learner = build_learner(plan, grid)
        load_weights(learner, folder_reader(folder))
        differing += _differing(MegatronWeightSource(learner), folder, torch.bfloat16)
        found[name] = (scores_NT, logits, differing)
    return found


def _imported(learner: LearnerModel, folder: Path) -> LearnerModel:
    """A learner of the same grid from the folder as the conversion writes it for that grid."""
    grid = learner.grid
    with_name = [""]
    if grid.is_main:
        with_name = [tempfile.mkdtemp()]
        import_hf(folder, Path(with_name[0]) / "checkpoint", grid.layout, lambda num_bytes: None)
    dist.broadcast_object_list(with_name, src=0, group=grid.control)
    other = build_model(learner.model, OptimizerOptions(), grid)
    load_checkpoint_weights(other, Path(with_name[0]) / "checkpoint")
    if grid.is_main:
        shutil.rmtree(with_name[0])
    return other


def _differing(source: MegatronWeightSource, folder: Path, dtype: torch.dtype) -> list[str]:
    """Names of tensors that are not the folder's bits; none but on world rank 0."""
    came = {name: tensor for name, tensor in source if tensor is not None}
    if not came:
        return []
    wanted = load_file(folder / "model.safetensors")
    return list(wanted.keys() ^ came.keys()) + [
        name
        for name in wanted.keys() & came.keys()
        if not torch.equal(came[name], wanted[name].to(dtype))
    ]
