"""The logits of a checkpoint in Megatron-Core beside those of its Hugging Face folder."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region

from e3mega.checkpoint.convert import model_of
from e3mega.checkpoint.sharded import load_checkpoint_weights
from e3mega.device import ProcessRank
from e3mega.families.geometry import ModelOptions, Precision
from e3mega.learner.micro_batch import NOTHING_KNOWN, MicroBatch
from e3mega.learner.pipeline import run_bins
from e3mega.mcore.build import LearnerModel, build_model
from e3mega.mcore.parallel import destroy_parallel, init_parallel
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.bins import bin_rules
from e3mega.rollout.packing import pack
from e3mega.rollout.records import TrainSequence
from e3mega.spec.schema.layout import LearnerLayout
from e3mega.spec.schema.optimizer import OptimizerOptions

# Shape letters: L tokens of each prompt, T of a bin, P prompts or tokens of a bin that this rank
# computes, W width of the model, V rows of the vocabulary, on this rank or in all.

NUM_PROMPTS, PROMPT_TOKENS = 3, 24


@dataclass(frozen=True, slots=True)
class LogitsReport:
    """Both sides' logits on prompts of random tokens. Example: ``LogitsReport(72, 2e-6, 11.3)``."""

    num_tokens: int
    max_abs_diff: float
    max_abs_logit: float


def compare_logits(hf_folder: Path, checkpoint: Path, *, seed: int = 1) -> LogitsReport:
    """Run transformers on the folder and Megatron-Core on the checkpoint, in fp32 on the CPU.

    Both models stand whole in memory, one after the other. Joins a process group of one rank.
    """
    model = model_of(hf_folder).model_copy(update={"precision": Precision.FLOAT32})
    length = min(PROMPT_TOKENS, model.max_context_tokens)
    generator = torch.Generator().manual_seed(seed)
    prompts_PL = torch.randint(1, model.vocab_size, (NUM_PROMPTS, length), generator=generator)
    theirs_PLV = _transformers_logits(hf_folder, prompts_PL)
    with _one_rank(model) as learner:
        load_checkpoint_weights(learner, checkpoint)
        ours_PLV = megatron_logits(learner, prompts_PL)
    return LogitsReport(
        num_tokens=prompts_PL.numel(),
        max_abs_diff=float((theirs_PLV - ours_PLV).abs().max()),
        max_abs_logit=float(theirs_PLV.abs().max()),
    )


def megatron_logits(learner: LearnerModel, prompts_PL: torch.Tensor) -> torch.Tensor:
    """Logits of a learner of one rank, (P, L, V)."""
    length = prompts_PL.shape[1]
    found: list[torch.Tensor] = []
    for prompt in prompts_PL.tolist():
        sequence = TrainSequence(
            token_ids=tuple(prompt),
            num_prompt_tokens=1,
            advantages=(0.0,) * (length - 1),
            rollout_logprobs=(0.0,) * (length - 1),
            loss_mask=(0.0,) * (length - 1),
            is_correct=False,
            group=0,
        )
        batch = pack(
            [sequence],
            normalizer=1.0,
            rules=bin_rules(learner.model, learner.grid.layout, length),
            stage="",
            step=0,
            round=0,
            version=0,
            lag=0,
        )
        found += bin_logits(learner, batch)
    return torch.stack(found)


def bin_logits(learner: LearnerModel, batch: PackedBatch) -> list[torch.Tensor]:
    """Whole logits of this rank's bins of a batch, (T, V) each; 0 at the padding of a bin.

    All ranks call it. The last stage has them, each tensor-parallel rank all of them; the other
    stages get none. Context-parallel ranks have the tokens that they compute.
    """
    found: list[torch.Tensor] = []
    group, is_divided = learner.grid.groups.tp, learner.grid.layout.tp > 1
    num_tokens, num_rows = batch.tokens_NT.shape[1], learner.model.vocab_size

    def gather(micro: MicroBatch, hidden_P1W: torch.Tensor, head_VW: torch.Tensor) -> None:
        if learner.grid.layout.sequence_parallel:
            hidden_P1W = gather_from_sequence_parallel_region(hidden_P1W, group=group)
        own_PV = hidden_P1W[:, 0] @ head_VW.T
        parts = [torch.empty_like(own_PV) for _ in range(group.size())] if is_divided else [own_PV]
        if is_divided:
            dist.all_gather(parts, own_PV, group)
        whole_PV = torch.cat(parts, dim=1)[:, :num_rows]
        logits_TV = whole_PV.new_zeros(num_tokens, num_rows)
        source_P = torch.from_numpy(micro.source_P).to(whole_PV.device)
        is_real_P = source_P >= 0
        logits_TV[source_P[is_real_P]] = whole_PV[is_real_P]
        found.append(logits_TV)

    with torch.no_grad():
        run_bins(
            learner,
            batch,
            NOTHING_KNOWN,
            _no_loss,
            temperature=1.0,
            forward_only=True,
            head=gather,
        )
    return found


def _no_loss(
    micro: MicroBatch, scores_3P: torch.Tensor, non_loss_data: bool = True
) -> torch.Tensor:
    """What Megatron's schedule keeps of a bin whose loss nobody asks for."""
    return scores_3P


def _transformers_logits(folder: Path, prompts_PL: torch.Tensor) -> torch.Tensor:
    # transformers takes seconds to import, and only this function needs it.
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(prompts_PL).logits


@contextmanager
def _one_rank(model: ModelOptions) -> Iterator[LearnerModel]:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        grid = init_parallel(
            LearnerLayout(threads_per_rank=os.cpu_count() or 1),
            ProcessRank(0, 1, 0),
            init_method=f"file://{store}",
        )
        try:
            yield build_model(model, OptimizerOptions(), grid)
        finally:
            destroy_parallel()
