"""What the ranks of a forked grid do in the tests of losses; see ``tests.warm_parent``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e3mega.checkpoint.sharded import load_checkpoint
from e3mega.learner.gradients import sign_norms
from e3mega.learner.lineage import lineage
from e3mega.learner.micro_batch import NOTHING_KNOWN
from e3mega.learner.nthr import advantage_factors
from e3mega.learner.pipeline import run_bins
from e3mega.learner.reference import References
from e3mega.learner.round_scores import round_scores
from e3mega.learner.serve import open_session
from e3mega.learner.step import own_logprobs, train_step
from e3mega.mcore.build import LearnerModel
from e3mega.mcore.parallel import RankGrid
from e3mega.objective.options import LossOptions
from e3mega.objective.sign_rule import NthrTokens
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, StagePlan
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.records import TrainSequence
from e3mega.rollout.training_data import step_of_groups
from e3mega.weights.load import load_start
from tests.checkpoint_cases import manifest_of
from tests.integration.checkpoint_jobs import begin
from tests.integration.grid_jobs import start
from tests.learner_cases import packed, random_groups, random_sequences


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
    plan, learner = start(grid)
    for number, parts in enumerate(losses):
        load_start(learner, seed=plan.seed)
        loss = LossOptions.model_validate_json(json.dumps(parts))
        stage: StagePlan = replace(plan.stages[0], loss=loss)
        paths = RunPaths(Path(folder) / f"{grid.process.world_size}_{number}_{packed_tokens}")
        batch = _judged(loss, packed_tokens, order)
        references = References(learner, plan, paths, {})
        (known,) = round_scores(learner, references, stage, [batch], stage_step=0)
        own_MT = own_logprobs(learner, batch, temperature=stage.generation.temperature)
        if own_MT is not None:
            own = slice(grid.place.dp_rank, None, grid.layout.dp)
            phase_MT = (batch.tokens_NT[own] * 3 + batch.positions_NT[own]).astype(np.float32)
            old_MT = own_MT + 0.3 * np.sin(phase_MT)
            reference_MT = own_MT + 0.2 * np.cos(phase_MT) if loss.kl is not None else None
            known = replace(known, old_logprobs_MT=old_MT, reference_logprobs_MT=reference_MT)
        case = {"temperature": stage.generation.temperature, "known": known}
        signs = sign_norms(learner, batch, loss, **case)
        found.append(signs | train_step(learner, batch, stage, stage_step=5, known=known))
        learner.gather_parameters()
    return found


def _judged(loss: LossOptions, packed_tokens: int, order: Sequence[int] | None) -> PackedBatch:
    """Twelve rollouts as the loss weighs them: its advantages, its masks, its denominator."""
    data = step_of_groups(random_groups(seed=1), loss, budget_tokens=40, stage_step=0)
    picked = [data.sequences[i] for i in order or range(len(data.sequences))]
    return packed(picked, packed_tokens=packed_tokens, normalizer=data.normalizer)


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


REFERENCES: dict[str, dict[str, Any]] = {
    "start": {"kind": "start"},
    "stage": {"kind": "stage"},
    "moving": {"kind": "moving", "every_steps": 2, "mix": 0.5},
}
NUM_ROUNDS, STOPS_AT = 6, 3


@dataclass
class _Run:
    """A learner under a KL term, and its references."""

    plan: Plan
    learner: LearnerModel
    references: References

    def rounds(self, numbers: range) -> list[float]:
        """The KL of rounds of one step."""
        kls: list[float] = []
        (stage,) = self.plan.stages
        for step in numbers:
            batch = _batch(step, 128, None)
            (known,) = round_scores(self.learner, self.references, stage, [batch], stage_step=step)
            metrics = train_step(self.learner, batch, stage, stage_step=step, known=known)
            self.references.steps["easy"] = step + 1
            kls.append(metrics["kl"])
        self.learner.gather_parameters()
        return kls


def _run_of(grid: RankGrid, kind: str, folder: Path) -> _Run:
    loss = {"kl": {"coefficient": 0.1, "reference": REFERENCES[kind]}}
    plan, learner = start(grid, loss)
    return _Run(plan, learner, References(learner, plan, RunPaths(folder / kind), {}))


def reference(grid: RankGrid, *, folder: str) -> dict[str, Any]:
    """KL of rounds to a reference of each kind, whether the weights come back bit for bit, and
    the copies that are left."""
    found: dict[str, Any] = {}
    for kind in REFERENCES:
        run = _run_of(grid, kind, Path(folder))
        if run.references.lacks_start:
            run.references.keep_start()
        kls = run.rounds(range(NUM_ROUNDS))
        before = {n: p.detach().clone() for n, p in run.learner.named_parameters().items()}
        run.references.prepare(run.plan.stages[0], stage_step=NUM_ROUNDS)
        with run.references.swapped_in():
            changed = any(
                not torch.equal(before[n], p) for n, p in run.learner.named_parameters().items()
            )
        same = all(torch.equal(before[n], p) for n, p in run.learner.named_parameters().items())
        run.references.remove_unneeded(
            [replace(manifest_of(4), lineage=lineage(run.plan, {"easy": 4}))]
        )
        left = sorted(path.name for path in run.references.paths.references.iterdir())
        found[kind] = {"kl": kls, "changed": changed, "same": same, "left": left}
    return found


def reference_first(grid: RankGrid, *, folder: str) -> dict[str, list[float]]:
    """The first rounds of each kind, and a checkpoint at their end."""
    found: dict[str, list[float]] = {}
    for kind in REFERENCES:
        run = _run_of(grid, kind, Path(folder))
        if run.references.lacks_start:
            run.references.keep_start()
        found[kind] = run.rounds(range(STOPS_AT))
        begin(
            *(run.learner, run.plan, str(Path(folder) / kind)),
            version=STOPS_AT,
            is_asynchronous=False,
        ).finish()
    return found


def reference_then(grid: RankGrid, *, folder: str) -> dict[str, list[float]]:
    """The other rounds, from the checkpoint and the files that another grid left."""
    found: dict[str, list[float]] = {}
    for kind in REFERENCES:
        run = _run_of(grid, kind, Path(folder))
        load_checkpoint(run.learner, run.references.paths.checkpoint(STOPS_AT), run.plan)
        run.references.steps["easy"] = STOPS_AT
        found[kind] = run.rounds(range(STOPS_AT, NUM_ROUNDS))
    return found


def reference_behind(grid: RankGrid, *, folder: str) -> list[float]:
    """The other rounds of a run that has the checkpoint, and no copy of the first weights."""
    plan, _ = start(grid, {"kl": {"coefficient": 0.1, "reference": REFERENCES["start"]}})
    session = open_session(plan, RunPaths(Path(folder) / "start"), grid)
    return _Run(plan, session.learner, session.references).rounds(range(STOPS_AT, NUM_ROUNDS))
