"""What the ranks of a forked grid do in the tests of losses; see ``tests.warm_parent``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e3mega.learner.gradients import sign_norms
from e3mega.learner.micro_batch import NOTHING_KNOWN
from e3mega.learner.nthr import advantage_factors
from e3mega.learner.pipeline import run_bins
from e3mega.learner.reference import Reference, keep_start, prepare, swapped_in
from e3mega.learner.round_scores import round_scores
from e3mega.learner.step import own_logprobs, train_step
from e3mega.mcore.parallel import RankGrid
from e3mega.objective.sign_rule import NthrTokens
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.records import TrainSequence
from tests.integration.grid_jobs import start
from tests.learner_cases import packed, random_sequences


def step_with(
    grid: RankGrid,
    *,
    losses: list[dict[str, Any]],
    folder: str,
    packed_tokens: int = 128,
    order: Sequence[int] | None = None,
) -> list[dict[str, float]]:
    """For each loss the metrics of a step whose old and reference policies are known distances off.

    The distances follow from the tokens, so they are the same on every grid.
    """
    found: list[dict[str, float]] = []
    for number, loss in enumerate(losses):
        plan, learner = start(grid, loss)
        paths = RunPaths(Path(folder) / f"{grid.process.world_size}_{number}_{packed_tokens}")
        batch = _batch(1, packed_tokens, order)
        stage: StagePlan = plan.stages[0]
        (known,) = round_scores(learner, paths, Reference(), stage, [batch], stage_step=0)
        own_MT = own_logprobs(learner, batch, temperature=stage.generation.temperature)
        if own_MT is not None:
            own = slice(grid.place.dp_rank, None, grid.layout.dp)
            phase_MT = (batch.tokens_NT[own] * 3 + batch.positions_NT[own]).astype(np.float32)
            old_MT = own_MT + 0.3 * np.sin(phase_MT)
            has_kl = stage.loss.kl is not None
            reference_MT = own_MT + 0.2 * np.cos(phase_MT) if has_kl else None
            known = replace(known, old_logprobs_MT=old_MT, reference_logprobs_MT=reference_MT)
        case = {"temperature": stage.generation.temperature, "known": known}
        signs = sign_norms(learner, batch, stage.loss, **case)
        found.append(signs | train_step(learner, batch, stage, stage_step=5, known=known))
    return found


def _batch(seed: int, packed_tokens: int, order: Sequence[int] | None) -> PackedBatch:
    sequences = random_sequences(12, seed=seed)
    picked: list[TrainSequence] = [sequences[i] for i in order or range(len(sequences))]
    return packed(picked, step=seed, packed_tokens=packed_tokens)


def nthr(grid: RankGrid, *, beta: float) -> Any:
    """Factors of every token of the step by bin, on ranks that have them; the whole's brute force
    on one rank."""
    _, learner = start(grid)
    batch = _batch(3, 128, None)
    own = advantage_factors(learner, batch, NthrTokens(kind="nthr", beta=beta), temperature=0.9)
    return own, (_brute_force(learner, batch, beta) if grid.process.world_size == 1 else None)


def _brute_force(learner: Any, batch: PackedBatch, beta: float) -> np.ndarray:
    """The formula pair by pair: <e_y - pi, e_y' - pi'> <h, h'>."""
    rows: list[tuple[np.ndarray, np.ndarray]] = []

    def keep(micro: Any, hidden_P1W: torch.Tensor, head_VW: torch.Tensor) -> None:
        hidden = hidden_P1W[:, 0].double()
        probs = (hidden @ head_VW.double().T / 0.9).softmax(1)
        words = torch.nn.functional.one_hot(micro.targets_P, len(head_VW))
        rows.append(((words - probs).numpy(), hidden.numpy()))

    with torch.no_grad():
        run_bins(
            learner,
            batch,
            NOTHING_KNOWN,
            lambda *_, **__: None,
            temperature=0.9,
            forward_only=True,
            head=keep,
        )
    factors = np.ones(batch.tokens_NT.shape, np.float32)
    for group in range(batch.groups_NT.max() + 1):
        places = [tuple(at) for at in np.argwhere(batch.groups_NT == group)]
        right = [at for at in places if batch.correct_NT[at]]
        if not right:
            continue

        def score(at: tuple[int, int], right: list[Any] = right) -> float:
            g, h = (x[at[1] - 1] for x in rows[at[0]])
            pairs = [(rows[n][0][t - 1], rows[n][1][t - 1]) for n, t in right]
            return sum(float(g @ other_g) * float(h @ other_h) for other_g, other_h in pairs)

        samples: dict[tuple[int, int], list[float]] = {}
        for at in right:
            samples.setdefault((at[0], int(batch.segments_NT[at])), []).append(score(at))
        threshold = beta * min(np.mean(values) for values in samples.values())
        for at in places:
            if not batch.correct_NT[at] and score(at) > threshold:
                factors[at] = 0.0
    return factors


def reference(grid: RankGrid, *, folder: str) -> dict[str, Any]:
    """KL of rounds to a reference of each kind, and whether the weights come back bit for bit."""
    kinds = {
        "start": {"kind": "start"},
        "stage": {"kind": "stage"},
        "moving": {"kind": "moving", "every_steps": 2, "mix": 0.5},
    }
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        loss = {"kl": {"coefficient": 0.1, "reference": kind}}
        plan, learner = start(grid, loss)
        paths = RunPaths(Path(folder) / name)
        held = Reference()
        keep_start(learner, plan, paths)
        kls: list[float] = []
        for step in range(6):
            if step == 3:
                # As after a resume: nothing in memory, the same files.
                held = Reference()
            batch = _batch(step, 128, None)
            (known,) = round_scores(learner, paths, held, plan.stages[0], [batch], stage_step=step)
            metrics = train_step(learner, batch, plan.stages[0], stage_step=step, known=known)
            kls.append(metrics["kl"])
        before = {n: p.detach().clone() for n, p in learner.named_parameters().items()}
        prepare(held, learner, paths, plan.stages[0], stage_step=6)
        with swapped_in(learner, held):
            changed = any(
                not torch.equal(before[n], p) for n, p in learner.named_parameters().items()
            )
        same = all(torch.equal(before[n], p) for n, p in learner.named_parameters().items())
        found[name] = {"kl": kls, "changed": changed, "same": same}
    return found
