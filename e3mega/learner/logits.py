"""The logits of a checkpoint in Megatron-Core beside those of its Hugging Face folder."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from e3mega.checkpoint.convert import model_of
from e3mega.checkpoint.sharded import load_checkpoint_weights
from e3mega.device import ProcessRank
from e3mega.families.geometry import ModelOptions, Precision
from e3mega.learner.step import score
from e3mega.mcore.build import LearnerModel, build_model
from e3mega.mcore.parallel import destroy_parallel, init_parallel
from e3mega.rollout.bins import bin_rules
from e3mega.rollout.packing import pack
from e3mega.rollout.records import TrainSequence
from e3mega.spec.schema.layout import LearnerLayout
from e3mega.spec.schema.optimizer import OptimizerOptions

# Shape letters: P prompts, L tokens of each, W width of the model, V rows of the vocabulary.

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
    """Logits of a learner of one rank, (P, L, V): its last hidden states times its head."""
    length = prompts_PL.shape[1]
    sequences = [
        TrainSequence(
            token_ids=tuple(prompt),
            num_prompt_tokens=1,
            advantages=(0.0,) * (length - 1),
            rollout_logprobs=(0.0,) * (length - 1),
            loss_mask=(0.0,) * (length - 1),
            is_correct=False,
            group=0,
        )
        for prompt in prompts_PL.tolist()
    ]
    parameters = learner.named_parameters()
    head_VW = parameters.get("output_layer.weight", parameters["embedding.word_embeddings.weight"])
    states: list[torch.Tensor] = []
    network: Any = learner.chunks[-1].module
    hook = network.decoder.final_layernorm.register_forward_hook(
        lambda module, inputs, output: states.append(output.detach())
    )
    for sequence in sequences:
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
        score(learner, batch, temperature=1.0)
    hook.remove()
    states_PLW = torch.stack([state.reshape(-1, state.shape[-1])[:length] for state in states])
    return states_PLW @ head_VW[: learner.model.vocab_size].detach().T


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
