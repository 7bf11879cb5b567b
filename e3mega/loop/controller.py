"""The one loop of a run: stages of rounds, and what is measured between them.

Consumes the plan, produces commands to the learner and requests to the tier. Each round waits
for its groups, then for the optimizer steps on them, then for the tier to serve the new version;
with ``max_lag`` L, up to L later rounds are generated while a round trains.
"""

import asyncio
from dataclasses import replace

from e3mega.curriculum.exit import exit_reason, is_measurement_due
from e3mega.curriculum.options import RecognitionExit
from e3mega.loop.jobs import Jobs
from e3mega.loop.measure import choose_budget, evaluate_stage, is_warm, measure_pass_k
from e3mega.loop.rounds import (
    RoundData,
    num_steps,
    rl_round,
    supervised_round,
    train_round,
    write_round_metrics,
)
from e3mega.loop.state import LoopState, Origin, state_to_json
from e3mega.loop.sync import TierSync
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.records import CommandKind
from e3mega.spec.schema.curriculum import StageMode

BASE_LABEL = "base"
END_LABEL = "end"


class Controller:
    """Runs the stages from a state to the end of the plan."""

    def __init__(self, jobs: Jobs, state: LoopState) -> None:
        self._jobs = jobs
        self._state = state
        self._tier = TierSync(jobs)
        self._ahead: dict[int, asyncio.Task[RoundData]] = {}
        self._rounds_since_checkpoint = 0

    async def run(self) -> LoopState:
        """Finish the plan; the state afterwards is the end of the last stage."""
        stages = self._jobs.plan.stages
        try:
            while True:
                stage = stages[self._state.stage_index]
                await self._run_stage(stage)
                if stage.index + 1 == len(stages):
                    break
                self._state = self._state.next_stage()
        finally:
            for task in self._ahead.values():
                task.cancel()
        await self._jobs.command(CommandKind.EXPORT, version=self._state.version)
        await self._jobs.command(CommandKind.STOP, version=self._state.version)
        self._jobs.metrics.write("run_finished", version=self._state.version)
        return self._state

    async def _run_stage(self, stage: StagePlan) -> None:
        jobs = self._jobs
        if not self._state.is_stage_finished:
            if self._state.stage_step == 0:
                await self._enter(stage)
            jobs.metrics.write(
                "stage_started",
                stage=stage.name,
                index=stage.index,
                mode=stage.mode.value,
                budget_tokens=self._state.budget_tokens,
                version=self._state.version,
            )
            jobs.take_timings()
            jobs.take_round_seconds()
            while not self._state.is_stage_finished:
                await self._run_round(stage)
            jobs.metrics.write(
                "stage_finished",
                stage=stage.name,
                version=self._state.version,
                reason=self._state.exit_reason,
            )
        await self._measure_end(stage)

    async def _enter(self, stage: StagePlan) -> None:
        """Measure the base before the first RL stage, and choose the stage's budget."""
        stages = self._jobs.plan.stages
        first_rl = next((s.index for s in stages if s.mode is StageMode.RL), None)
        if stage.index == first_rl:
            self._state = await evaluate_stage(
                self._jobs, self._tier, self._state, stage, label=BASE_LABEL
            )
            self._state = await measure_pass_k(
                self._jobs, self._tier, self._state, stage, label=BASE_LABEL
            )
        self._state = await choose_budget(self._jobs, self._tier, self._state, stage)

    async def _measure_end(self, stage: StagePlan) -> None:
        if stage.mode is StageMode.SUPERVISED:
            return
        self._state = await evaluate_stage(
            self._jobs, self._tier, self._state, stage, label=stage.name
        )
        if stage.index + 1 == len(self._jobs.plan.stages):
            self._state = await measure_pass_k(
                self._jobs, self._tier, self._state, stage, label=END_LABEL
            )

    async def _run_round(self, stage: StagePlan) -> None:
        jobs = self._jobs
        if stage.mode is StageMode.RL:
            await self._tier.ensure(self._state.version, stage)
        current = self._state.stage_round
        self._generate_ahead(stage, current)
        with jobs.timed("generation_wait_s"):
            data = await self._ahead.pop(current)
        lag = current - self._state.generated[current].round
        self._state = await train_round(jobs, self._state, stage, data, lag=lag)
        reason = await self._exit_reason(stage)
        if reason:
            self._state = replace(self._state, is_stage_finished=True, exit_reason=reason)
            self._drop_ahead()
        # A sync must not fall into a group: what was set off under the old version ends first.
        with jobs.timed("generation_wait_s"):
            await asyncio.gather(*self._ahead.values())
        if stage.mode is StageMode.RL:
            await self._tier.ensure(self._state.version, stage)
        await self._checkpoint_if_due(stage)
        write_round_metrics(jobs, self._state, stage, data)

    def _generate_ahead(self, stage: StagePlan, current: int) -> None:
        """Set off the coming round and those that may run ahead of their training."""
        depth = 1 if stage.mode is StageMode.SUPERVISED else stage.rollout.max_lag
        generated = dict(self._state.generated)
        for stage_round in range(current, current + depth + 1):
            steps = num_steps(stage, stage_round)
            if stage_round in self._ahead or steps == 0:
                continue
            if stage.mode is StageMode.SUPERVISED:
                origin = Origin(self._state.version, stage_round)
                work = asyncio.to_thread(
                    supervised_round, self._jobs, stage, stage_round=stage_round, steps=steps
                )
            else:
                origin = generated.get(stage_round, Origin(self._state.version, current))
                work = rl_round(
                    self._jobs,
                    stage,
                    stage_round=stage_round,
                    steps=steps,
                    budget_tokens=self._state.budget_tokens,
                    version=origin.version,
                )
            generated[stage_round] = origin
            self._ahead[stage_round] = asyncio.create_task(work)
        kept = {number: origin for number, origin in generated.items() if number >= current}
        self._state = replace(self._state, generated=kept)

    def _drop_ahead(self) -> None:
        for task in self._ahead.values():
            task.cancel()
        self._ahead.clear()

    async def _exit_reason(self, stage: StagePlan) -> str:
        """Why the stage ends after this round; empty if it goes on."""
        step, rule = self._state.stage_step, stage.exit
        is_enough = (
            isinstance(rule, RecognitionExit)
            and is_measurement_due(rule, step)
            and await is_warm(self._jobs, self._state, stage, rule)
        )
        reason = exit_reason(rule, step, is_enough=is_enough)
        return "" if reason is None else reason.value

    async def _checkpoint_if_due(self, stage: StagePlan) -> None:
        self._rounds_since_checkpoint += 1
        every = self._jobs.plan.checkpoint.every_rounds
        if self._rounds_since_checkpoint < every and not self._state.is_stage_finished:
            return
        self._rounds_since_checkpoint = 0
        with self._jobs.timed("checkpoint_s"):
            reply = await self._jobs.command(
                CommandKind.CHECKPOINT,
                stage=stage.name,
                version=self._state.version,
                loop_state=state_to_json(self._state),
            )
        self._jobs.metrics.write("checkpoint", version=self._state.version, seconds=reply.seconds)
