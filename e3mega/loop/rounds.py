"""One round of a stage: its sequences, its batches, and the optimizer steps on them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from e3mega.curriculum.allowance import budget_at
from e3mega.loop.accounts import write_ledger
from e3mega.loop.exploration import failure_counts, group_metrics
from e3mega.loop.jobs import Jobs
from e3mega.loop.refill import sample_round
from e3mega.loop.requests import amount, count_groups
from e3mega.loop.state import LoopState
from e3mega.plan.planfile import BudgetPlan, StagePlan
from e3mega.rollout.batch_file import write_batch
from e3mega.rollout.bins import bin_rules
from e3mega.rollout.ledger import Amount, DiscardReason, Ledger
from e3mega.rollout.packing import pack
from e3mega.rollout.records import CommandKind, Group
from e3mega.rollout.sampler import SampledRound
from e3mega.rollout.training_data import StepData, step_of_groups, step_of_traces


@dataclass(frozen=True, slots=True)
class RoundData:
    """What a round trains on, step by step, and the groups behind it.

    Example: ``RoundData((StepData((sequence,), 40.0),), (), None, None, 96)``.
    """

    steps: tuple[StepData, ...]
    kept: tuple[Group, ...]
    """The groups that it trains on; none in a supervised stage."""
    sampled: SampledRound | None
    """What the tier gave; None in a supervised stage."""
    version: int | None
    """Version that generated the round; None in a supervised stage."""
    budget_tokens: int
    """The most tokens that a completion of the round may have."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """The round's groups; none in a supervised stage."""
        return () if self.sampled is None else self.sampled.groups


def num_steps(stage: StagePlan, stage_round: int) -> int:
    """Optimizer steps of a round; the last round of a stage may be short, none follow it."""
    per_round = stage.rollout.steps_per_round
    return max(0, min(per_round, stage.max_steps - stage_round * per_round))


def round_budget(stage: StagePlan, stage_round: int, chosen: int) -> int:
    """The token budget of a round; ``chosen`` is what the coupled rule decided."""
    return budget_at(stage.budget, stage_round * stage.rollout.steps_per_round, chosen)


def supervised_round(
    jobs: Jobs, stage: StagePlan, *, stage_round: int, steps: int, budget_tokens: int
) -> RoundData:
    """Traces of the task's generator, every token of them with advantage 1."""
    task = jobs.tasks[stage.index]
    per_step = stage.rollout.prompts_per_step
    first = stage_round * stage.rollout.steps_per_round * per_step
    return RoundData(
        tuple(
            step_of_traces([task.trace(index) for index in range(start, start + per_step)])
            for start in range(first, first + steps * per_step, per_step)
        ),
        kept=(),
        sampled=None,
        version=None,
        budget_tokens=budget_tokens,
    )


async def rl_round(
    jobs: Jobs,
    stage: StagePlan,
    *,
    stage_round: int,
    places: Sequence[int],
    spares: Sequence[int],
    budget_tokens: int,
    version: int,
) -> RoundData:
    """Groups of the prompts at these places sampled under ``version``, with their advantages."""
    refilled = await sample_round(
        jobs,
        stage,
        stage_round=stage_round,
        places=places,
        spares=spares,
        budget_tokens=budget_tokens,
        version=version,
    )
    first_step = stage_round * stage.rollout.steps_per_round
    data = tuple(
        step_of_groups(
            groups, stage.loss, budget_tokens=budget_tokens, stage_step=first_step + offset
        )
        for offset, groups in enumerate(_by_step(refilled.kept, stage))
    )
    return RoundData(data, refilled.kept, refilled.sampled, version, budget_tokens)


def rewards_of(data: RoundData) -> list[float]:
    """The rewards of a round's rollouts; none in a supervised stage."""
    groups = data.sampled.groups if data.sampled else ()
    return [rollout.marks.reward for group in groups for rollout in group.rollouts]


def _by_step(kept: tuple[Group, ...], stage: StagePlan) -> list[tuple[Group, ...]]:
    per_step = stage.rollout.prompts_per_step
    return [kept[start : start + per_step] for start in range(0, len(kept), per_step)]


async def train_round(
    jobs: Jobs, state: LoopState, stage: StagePlan, data: RoundData, *, lag: int
) -> LoopState:
    """Write the round's batches and have the learner take a step on each."""
    budget = _budget_plan(stage, data.budget_tokens)
    with jobs.timed("pack_s"):
        files = await asyncio.to_thread(_write_batches, jobs, state, stage, data, budget, lag)
    with jobs.timed("train_s"):
        reply = await jobs.command(
            CommandKind.TRAIN,
            stage=stage.name,
            stage_step=state.stage_step,
            batch_files=files,
            version=state.version,
        )
    groups = _by_step(data.kept, stage)
    for step, values in enumerate(reply.steps):
        jobs.metrics.write(
            "step",
            stage=stage.name,
            mode=stage.mode.value,
            step=state.version + step + 1,
            stage_step=state.stage_step + step + 1,
            stage_max_steps=stage.max_steps,
            round=state.stage_round,
            version=state.version if data.version is None else data.version,
            lag=lag,
            budget_tokens=data.budget_tokens,
            tokens_trained=values["tokens"],
            **{key: value for key, value in values.items() if key != "tokens"},
            **(group_metrics(groups[step]) if groups else {}),
            failures=failure_counts(groups[step]) if groups else {},
        )
    rewards = [r.marks.reward for group in data.groups for r in group.rollouts]
    state = replace(
        state,
        stage_step=state.stage_step + len(data.steps),
        stage_round=state.stage_round + 1,
        version=state.version + len(data.steps),
        reward_sum=state.reward_sum + sum(rewards),
        num_rewards=state.num_rewards + len(rewards),
    )
    if stage.data.drops_solved or stage.data.admission is not None:
        state = replace(state, pass_rates={**state.pass_rates, **_pass_rates(data.groups)})
    return state.counted(stage.name, lambda ledger: _trained(ledger, data, lag=lag))


def _pass_rates(groups: Sequence[Group]) -> dict[str, float]:
    return {
        group.request.prompt.problem: float(np.mean([r.marks.reward > 0 for r in group.rollouts]))
        for group in groups
    }


def _trained(ledger: Ledger, data: RoundData, *, lag: int) -> Ledger:
    """The ledger after the round; its sums are checked after every step."""
    if data.sampled is not None:
        ledger = count_groups(ledger, data.sampled)
        if len(data.kept) < len(data.groups):
            dropped = amount(data.groups) - amount(data.kept)
            ledger = ledger.discard(dropped, DiscardReason.FLAT)
    for step in data.steps:
        tokens = sum(len(s.token_ids) - s.num_prompt_tokens for s in step.sequences)
        trained = Amount(len(step.sequences), tokens)
        is_rl = data.sampled is not None
        ledger = ledger.train(trained, lag=lag) if is_rl else ledger.train_supervised(trained)
        ledger.check(is_drained=False)
    return ledger


def write_round_metrics(jobs: Jobs, state: LoopState, stage: StagePlan, data: RoundData) -> None:
    """Log where the round's seconds went, and the ledger."""
    timings = jobs.take_timings()
    generation = timings.pop("generation_wait_s", 0.0)
    jobs.metrics.write(
        "round",
        stage=stage.name,
        round=state.stage_round - 1,
        version=state.version,
        generation_s=generation,
        total_s=jobs.take_round_seconds(),
        num_redrawn=data.sampled.num_redrawn if data.sampled else 0,
        **timings,
    )
    write_ledger(jobs, state, stage)


def _write_batches(
    jobs: Jobs,
    state: LoopState,
    stage: StagePlan,
    data: RoundData,
    budget: BudgetPlan,
    lag: int,
) -> tuple[str, ...]:
    files: list[str] = []
    for offset, step_data in enumerate(data.steps):
        step = state.version + offset
        batch = pack(
            step_data.sequences,
            normalizer=step_data.normalizer,
            rules=bin_rules(jobs.plan.model, stage.learner, budget.packed_tokens),
            stage=stage.name,
            step=step,
            round=state.stage_round,
            version=state.version if data.version is None else data.version,
            lag=lag,
        )
        path = jobs.paths.batch(stage.name, step)
        write_batch(path, batch)
        files.append(str(path.relative_to(jobs.paths.run_dir)))
    return tuple(files)


def _budget_plan(stage: StagePlan, tokens: int) -> BudgetPlan:
    return next(budget for budget in stage.budgets if budget.tokens == tokens)
