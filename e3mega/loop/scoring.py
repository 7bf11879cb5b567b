"""Log-probabilities of given sequences under the learner's current weights."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The stubs leave the path's type open.
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from e3mega.errors import RecordError
from e3mega.loop.jobs import Jobs
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.batch_file import read_batch, write_batch
from e3mega.rollout.bins import bin_rules
from e3mega.rollout.packing import pack
from e3mega.rollout.records import CommandKind, TrainSequence


async def score_sequences(
    jobs: Jobs, stage: StagePlan, sequences: Sequence[tuple[int, ...]], *, name: str, version: int
) -> list[NDArray[np.float32]]:
    """Log-probability, in nats at temperature 1, of each token but the first of each sequence.

    The learner computes them with the forward pass it trains with.
    """
    batch_path = jobs.paths.scores / f"{name}.batch.safetensors"
    output_path = jobs.paths.scores / f"{name}.logprobs.safetensors"
    # The group carries the number of the sequence: packing may reorder them.
    rows = [
        TrainSequence(
            token_ids=tokens,
            num_prompt_tokens=1,
            advantages=(1.0,) * (len(tokens) - 1),
            rollout_logprobs=(0.0,) * (len(tokens) - 1),
            loss_mask=(1.0,) * (len(tokens) - 1),
            is_correct=False,
            group=number,
        )
        for number, tokens in enumerate(sequences)
    ]
    batch = pack(
        rows,
        normalizer=1.0,
        rules=bin_rules(jobs.plan.model, stage.learner, stage.budgets[-1].packed_tokens),
        stage=stage.name,
        step=version,
        round=0,
        version=version,
        lag=0,
    )
    write_batch(batch_path, batch)
    await jobs.command(
        CommandKind.SCORE,
        version=version,
        batch_files=(str(batch_path.relative_to(jobs.paths.run_dir)),),
        output_file=str(output_path.relative_to(jobs.paths.run_dir)),
    )
    logprobs_NT = load_file(output_path)["logprobs"]
    batch = read_batch(batch_path)
    if logprobs_NT.shape != batch.tokens_NT.shape:
        raise RecordError(
            f"{output_path}: got log-probabilities of shape {logprobs_NT.shape}, "
            f"need {batch.tokens_NT.shape}; the learner and the loop read different batches"
        )
    scores = [np.zeros(len(tokens) - 1, dtype=np.float32) for tokens in sequences]
    for n, t in zip(*np.nonzero(batch.mask_NT), strict=True):
        scores[batch.groups_NT[n, t]][batch.positions_NT[n, t] - 1] = logprobs_NT[n, t]
    return scores
