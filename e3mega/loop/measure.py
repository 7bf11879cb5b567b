"""Measurements of a stage: accuracy over budgets, pass@k, the budget rule, recognition."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from e3mega.curriculum.allowance import budget_at
from e3mega.curriculum.budget import decide_budget
from e3mega.curriculum.exit import is_recognition_enough
from e3mega.curriculum.options import (
    CoupledBudget,
    PlateauExit,
    RecognitionExit,
    Signal,
    TargetExit,
)
from e3mega.evaluate.budgets import accuracy_curve
from e3mega.evaluate.extrapolation import extrapolation
from e3mega.evaluate.outcomes import Outcomes, outcomes_of
from e3mega.evaluate.passk import pass_k_curve
from e3mega.loop.jobs import Jobs
from e3mega.loop.requests import measure_prompts
from e3mega.loop.scoring import score_sequences
from e3mega.loop.state import LoopState
from e3mega.loop.sync import TierSync
from e3mega.metrics import Json
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.records import Purpose
from e3mega.spec.schema.curriculum import StageMode


async def choose_budget(
    jobs: Jobs, tier: TierSync, state: LoopState, stage: StagePlan
) -> LoopState:
    """The state with the stage's budget; a coupled one is measured on the stage's first policy."""
    rule = stage.budget
    if not isinstance(rule, CoupledBudget):
        return replace(state, budget_tokens=budget_at(rule, 0, 0))
    await tier.ensure(state.version, stage)
    state, groups = await measure_prompts(
        jobs,
        stage,
        state,
        jobs.prompts(stage).first(rule.num_problems),
        purpose=Purpose.BUDGET,
        num_samples=rule.samples_per_problem,
        max_tokens=2 * max(rule.candidates),
    )
    outcomes = outcomes_of(groups)
    mean_tokens = float(outcomes.num_tokens_PS.mean())
    floor = float(rule.floor_tokens or 0)
    if rule.has_mean_length_floor:
        floor = max(floor, mean_tokens)
    decision = decide_budget(outcomes.solved_at_PS, rule, floor=floor, seed=jobs.plan.seed)
    jobs.metrics.write(
        "budget_decision",
        stage=stage.name,
        candidates=list(decision.candidates),
        budgets=list(decision.budgets),
        accuracy=list(decision.accuracy),
        accuracy_low=list(decision.accuracy_low),
        accuracy_high=list(decision.accuracy_high),
        ratios=list(decision.ratios),
        ratio_low=list(decision.ratio_low),
        ratio_high=list(decision.ratio_high),
        kappa=decision.kappa,
        floor=decision.floor,
        pass_k=decision.pass_k,
        mean_tokens=mean_tokens,
        chosen=decision.chosen,
        reason=decision.reason.value,
        num_problems=decision.num_problems,
        num_samples=decision.num_samples,
    )
    return replace(state, budget_tokens=decision.chosen)


async def evaluate_stage(
    jobs: Jobs, tier: TierSync, state: LoopState, stage: StagePlan, *, label: str
) -> LoopState:
    """Accuracy over the test budgets on held-out problems of both slices."""
    return await _evaluate(
        jobs, tier, state, stage, event="evaluation", ahead_tokens=0, label=label
    )


def is_evaluation_due(stage: StagePlan, stage_step: int) -> bool:
    """Whether the stage is measured after this many of its steps, its last ones left out."""
    every = stage.evaluation.every_steps
    return every is not None and stage.mode is StageMode.RL and stage_step % every == 0


async def evaluate_within(
    jobs: Jobs, tier: TierSync, state: LoopState, stage: StagePlan, *, ahead_tokens: int
) -> LoopState:
    """The same measurement as at the stage's end, with the same seeds, while it goes on."""
    with jobs.timed("evaluate_s"):
        return await _evaluate(
            jobs,
            tier,
            state,
            stage,
            event="evaluation_within",
            ahead_tokens=ahead_tokens,
            stage_step=state.stage_step,
        )


async def _evaluate(
    jobs: Jobs,
    tier: TierSync,
    state: LoopState,
    stage: StagePlan,
    *,
    event: str,
    ahead_tokens: int,
    **fields: Json,
) -> LoopState:
    await tier.ensure(state.version, stage)
    options = stage.evaluation
    state, groups = await measure_prompts(
        jobs,
        stage,
        state,
        jobs.tasks[stage.index].held_out_prompts(options.num_problems),
        purpose=Purpose.EVALUATE,
        num_samples=options.samples_per_problem,
        max_tokens=max(options.budgets),
        ahead_tokens=ahead_tokens,
    )
    every = outcomes_of(groups)
    trained_at = budget_at(stage.budget, max(0, state.stage_step - 1), state.budget_tokens)
    for name in every.shown_slices:
        outcomes = every.of_slice(name)
        curve = accuracy_curve(outcomes, options.budgets)
        jobs.metrics.write(
            event,
            **fields,
            stage=stage.name,
            version=state.version,
            slice=name,
            budgets=[point.budget_tokens for point in curve],
            accuracy=[point.accuracy for point in curve],
            stderr=[point.stderr for point in curve],
            truncated=[point.truncated_frac for point in curve],
            **_beyond(outcomes, options.budgets, trained_at, seed=jobs.plan.seed),
            mean_attempts=float(outcomes.num_attempts_PS.mean()),
            mean_length=float(outcomes.num_tokens_PS.mean()),
            num_problems=len(outcomes.slices),
        )
    return state


def _beyond(
    outcomes: Outcomes, budgets: Sequence[int], trained_at: int, *, seed: int
) -> dict[str, float]:
    """The area gained beyond the stage's budget; nothing where no larger one is tested."""
    found = extrapolation(outcomes, budgets, trained_at, seed=seed)
    if found is None:
        return {}
    return {
        "training_budget": found.from_tokens,
        "extrapolation": found.area,
        "extrapolation_stderr": found.stderr,
    }


async def measure_pass_k(
    jobs: Jobs, tier: TierSync, state: LoopState, stage: StagePlan, *, label: str
) -> LoopState:
    """Unbiased pass@k on held-out problems."""
    options = stage.evaluation
    if options.pass_num_problems == 0:
        return state
    await tier.ensure(state.version, stage)
    state, groups = await measure_prompts(
        jobs,
        stage,
        state,
        jobs.tasks[stage.index].held_out_prompts(options.pass_num_problems),
        purpose=Purpose.PASS_K,
        num_samples=options.pass_samples,
        max_tokens=options.pass_budget_tokens,
    )
    is_correct_PS = outcomes_of(groups).solved_at_PS <= options.pass_budget_tokens
    points = pass_k_curve(is_correct_PS, options.pass_k, seed=jobs.plan.seed)
    jobs.metrics.write(
        "pass_k",
        label=label,
        k=[point.k for point in points],
        pass_at_k=[point.pass_at_k for point in points],
        stderr=[point.stderr for point in points],
        num_problems=len(groups),
        num_samples=options.pass_samples,
        budget_tokens=options.pass_budget_tokens,
    )
    return state


async def measure_signal(
    jobs: Jobs,
    tier: TierSync,
    state: LoopState,
    stage: StagePlan,
    rule: PlateauExit | TargetExit,
    *,
    ahead_tokens: int,
) -> LoopState:
    """The state with one more measurement of what the exit rule reads; it is logged."""
    if rule.of is Signal.REWARD:
        value = state.reward_sum / state.num_rewards
    else:
        await tier.ensure(state.version, stage)
        options = stage.evaluation
        budget = budget_at(stage.budget, state.stage_step - 1, state.budget_tokens)
        state, groups = await measure_prompts(
            jobs,
            stage,
            state,
            jobs.tasks[stage.index].held_out_prompts(options.num_problems),
            purpose=Purpose.EXIT,
            num_samples=options.samples_per_problem,
            max_tokens=budget,
            ahead_tokens=ahead_tokens,
        )
        value = float((outcomes_of(groups).solved_at_PS <= budget).mean())
    jobs.metrics.write(
        "signal",
        stage=stage.name,
        step=state.version,
        of=rule.of.value,
        value=value,
        best=max((value, *state.signals)),
    )
    return replace(state, signals=(*state.signals, value), reward_sum=0.0, num_rewards=0)


async def is_warm(jobs: Jobs, state: LoopState, stage: StagePlan, rule: RecognitionExit) -> bool:
    """Whether the model tells hits from misses on held-out attempts; the measurement is logged."""
    probes = jobs.tasks[stage.index].probes(rule.num_attempts)
    scores = await score_sequences(
        jobs,
        stage,
        [probe.token_ids for probe in probes],
        name="probes",
        version=state.version,
    )
    calls_hit = np.array([score[-1] > math.log(0.5) for score in scores])
    is_hit = np.array([probe.is_hit for probe in probes])
    hit_frac = float(calls_hit[is_hit].mean())
    false_hit_frac = float(calls_hit[~is_hit].mean())
    is_enough = is_recognition_enough(hit_frac, false_hit_frac, rule)
    jobs.metrics.write(
        "recognition",
        stage=stage.name,
        step=state.version,
        hit_frac=hit_frac,
        false_hit_frac=false_hit_frac,
        num_attempts=len(probes),
        is_enough=is_enough,
    )
    return is_enough
