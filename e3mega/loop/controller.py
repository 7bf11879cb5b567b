"""The one loop of a run: stages of rounds, and what is measured between them.

Consumes the plan, produces commands to the learner and requests to the tier. Each round waits
for its groups, then for the optimizer steps on them, then for the tier to serve the new version;
with ``max_lag`` L, up to L later rounds are generated while a round trains.
"""

import asyncio
from dataclasses import replace
from statistics import fmean

from e3mega.curriculum.exit import ExitReason, StagePast, exit_reason, is_measurement_due
from e3mega.curriculum.options import PlateauExit, RecognitionExit, TargetExit, TokenKind
from e3mega.errors import E3Error
from e3mega.loop.accounts import write_ledger
from e3mega.loop.caps import check_round_caps, num_sampled_tokens
from e3mega.loop.jobs import Jobs
from e3mega.loop.measure import (
    choose_budget,
    evaluate_stage,
    evaluate_within,
    is_evaluation_due,
    is_warm,
    measure_pass_k,
    measure_signal,
)
from e3mega.loop.requests import amount, count_groups
from e3mega.loop.rounds import (
    RoundData,
    num_steps,
    rewards_of,
    rl_round,
    round_budget,
    supervised_round,
    train_round,
    write_round_metrics,
)
from e3mega.loop.state import LoopState, Origin, state_to_json
from e3mega.loop.sync import TierSync
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.ledger import DiscardReason
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
        self._turn = asyncio.Lock()
        """Held from a round's first step to its checkpoint; outside it the state is whole."""
        self._rewards: list[float] = []
        """Of the rollouts sampled for training since the last checkpoint of this stage."""

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
                await self._change_grid(stage, stages[stage.index + 1])
        finally:
            for task in self._ahead.values():
                task.cancel()
        write_ledger(self._jobs, self._state, stage)
        self._state.ledger.check(is_drained=True)
        await self._jobs.command(CommandKind.EXPORT, version=self._state.version)
        await self._jobs.command(CommandKind.STOP, version=self._state.version)
        self._jobs.metrics.write("run_finished", version=self._state.version)
        return self._state

    async def _change_grid(self, before: StagePlan, after: StagePlan) -> None:
        """Re-shard: the learner of the next grid loads the checkpoint at the end of the stage."""
        if before.segment == after.segment:
            return
        self._jobs.metrics.write(
            "grid_changed",
            stage=after.name,
            version=self._state.version,
            before=before.learner.model_dump(mode="json"),
            after=after.learner.model_dump(mode="json"),
        )
        await self._jobs.enter_segment(after.segment, self._state.version)

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
                budget_tokens=round_budget(
                    stage, self._state.stage_round, self._state.budget_tokens
                ),
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
        """Choose the stage's budget, and measure the base before the first RL stage."""
        stages = self._jobs.plan.stages
        self._state = await choose_budget(self._jobs, self._tier, self._state, stage)
        first_rl = next((s.index for s in stages if s.mode is StageMode.RL), None)
        if stage.index == first_rl:
            self._state = await evaluate_stage(
                self._jobs, self._tier, self._state, stage, label=BASE_LABEL
            )
            self._state = await measure_pass_k(
                self._jobs, self._tier, self._state, stage, label=BASE_LABEL
            )

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
        async with self._turn:
            await self._train_round(stage, current, data)

    async def _train_round(self, stage: StagePlan, current: int, data: RoundData) -> None:
        """Train on the round, then bring the tier to the new weights, and take a checkpoint."""
        jobs = self._jobs
        origin = self._state.generated[current]
        lag = current - origin.round
        self._state = await train_round(jobs, self._state, stage, data, lag=lag)
        unused = origin.spares[len(data.groups) - len(origin.places) :]
        self._state = replace(self._state, returned=(*self._state.returned, *unused))
        # A sync must not fall into a group: what was set off under the old version ends first.
        with jobs.timed("generation_wait_s"):
            await asyncio.gather(*self._ahead.values())
        if stage.mode is StageMode.RL:
            await self._tier.ensure(self._state.version, stage)
        reason = await self._exit_reason(stage)
        if reason:
            self._state = replace(self._state, is_stage_finished=True, exit_reason=reason)
            self._discard_ahead(stage)
        elif is_evaluation_due(stage, self._state.stage_step):
            self._state = await evaluate_within(
                jobs, self._tier, self._state, stage, ahead_tokens=self._ahead_tokens
            )
        self._rewards += rewards_of(data)
        await self._checkpoint_if_due(stage)
        write_round_metrics(jobs, self._state, stage, data)

    def _generate_ahead(self, stage: StagePlan, current: int) -> None:
        """Set off the coming round and those that may run ahead of their training."""
        depth = 1 if stage.mode is StageMode.SUPERVISED else stage.rollout.max_lag
        coming = [
            stage_round
            for stage_round in range(current, current + depth + 1)
            if stage_round not in self._ahead and num_steps(stage, stage_round) > 0
        ]
        chosen = self._state.budget_tokens
        budgets = {number: round_budget(stage, number, chosen) for number in coming}
        ahead = {number: task.result() for number, task in self._ahead.items()}
        check_round_caps(self._jobs, self._state, stage, coming=budgets, ahead=ahead)
        for stage_round, budget_tokens in budgets.items():
            origin = self._origin(stage, stage_round, current)
            steps = num_steps(stage, stage_round)
            if stage.mode is StageMode.SUPERVISED:
                work = asyncio.to_thread(
                    supervised_round,
                    self._jobs,
                    stage,
                    stage_round=stage_round,
                    steps=steps,
                    budget_tokens=budget_tokens,
                )
            elif origin.places:
                work = rl_round(
                    self._jobs,
                    stage,
                    stage_round=stage_round,
                    places=origin.places,
                    spares=origin.spares,
                    budget_tokens=budget_tokens,
                    version=origin.version,
                )
            else:
                break
            self._ahead[stage_round] = asyncio.create_task(work)
        if current not in self._ahead:
            raise E3Error(
                f"stage {stage.name}: its data has fewer prompts that may come than one step "
                "takes; widen data.parts or data.admission, or lower rollout.prompts_per_step"
            )
        generated = self._state.generated.items()
        kept = {number: origin for number, origin in generated if number >= current}
        self._state = replace(self._state, generated=kept)

    @property
    def _ahead_tokens(self) -> int:
        """Tokens of the rounds that were sampled ahead, which no ledger holds yet."""
        return num_sampled_tokens(task.result() for task in self._ahead.values())

    def _origin(self, stage: StagePlan, stage_round: int, current: int) -> Origin:
        """How a round is, or was before a kill, generated; a new one takes its prompts now."""
        known = self._state.generated.get(stage_round)
        if known is not None:
            return known
        places: tuple[int, ...] = ()
        spares: tuple[int, ...] = ()
        if stage.mode is StageMode.RL:
            per_step = stage.rollout.prompts_per_step
            count = per_step * num_steps(stage, stage_round)
            state = self._state
            rule = stage.loss.dynamic_sampling
            waves = 1 if rule is None else 1 + rule.max_refills
            taken = self._jobs.prompts(stage).take(
                count * waves, state.next_place, state.pass_rates, returned=state.returned
            )
            # Steps are whole: what is left of a limited stream is not trained on.
            num_places = min(count, len(taken.places)) // per_step * per_step
            places, spares = taken.places[:num_places], taken.places[num_places:]
            if places:
                self._state = replace(state, next_place=taken.next_place, returned=taken.returned)
        origin = Origin(self._state.version, current, places, spares)
        if places or stage.mode is StageMode.SUPERVISED:
            generated = {**self._state.generated, stage_round: origin}
            self._state = replace(self._state, generated=generated)
        return origin

    def _has_prompts(self, stage: StagePlan) -> bool:
        """Whether the next round has at least one step's prompts."""
        state = self._state
        if stage.mode is StageMode.SUPERVISED or state.stage_round in state.generated:
            return True
        count = stage.rollout.prompts_per_step
        taken = self._jobs.prompts(stage).take(
            count, state.next_place, state.pass_rates, returned=state.returned
        )
        return len(taken.places) == count

    def _discard_ahead(self, stage: StagePlan) -> None:
        """Count what was generated ahead, and has ended, for a stage that ends before it."""
        for task in self._ahead.values():
            sampled = task.result().sampled
            if sampled is not None:
                dropped = amount(sampled.groups)
                self._state = self._state.counted(
                    stage.name,
                    lambda ledger, sampled=sampled, dropped=dropped: count_groups(
                        ledger, sampled
                    ).discard(dropped, DiscardReason.STAGE_ENDED),
                )
        self._ahead.clear()

    async def _exit_reason(self, stage: StagePlan) -> str:
        """Why the stage ends after this round; empty if it goes on."""
        step, rule = self._state.stage_step, stage.exit
        is_due, is_enough = is_measurement_due(rule, step), False
        if is_due and isinstance(rule, RecognitionExit):
            is_enough = await is_warm(self._jobs, self._state, stage, rule)
        elif is_due and isinstance(rule, PlateauExit | TargetExit):
            self._state = await measure_signal(
                self._jobs, self._tier, self._state, stage, rule, ahead_tokens=self._ahead_tokens
            )
        ledger = self._state.ledger_of(stage.name)
        trained = ledger.trained + ledger.supervised
        past = StagePast(
            step=step,
            tokens={
                TokenKind.GENERATED: (ledger.generated - ledger.evaluated).tokens,
                TokenKind.TRAINED: trained.tokens,
            },
            signals=self._state.signals,
            is_recognition_enough=is_enough,
        )
        reason = exit_reason(rule, past)
        if reason is None and not self._has_prompts(stage):
            reason = ExitReason.DATA
        return "" if reason is None else reason.value

    async def leave(self, work: asyncio.Task[LoopState]) -> bool:
        """Cut ``run`` short at a checkpoint and have the learner leave; whether it was in time."""
        async with self._turn:
            if work.done():
                await work
                return False
            work.cancel()
            await asyncio.wait({work})
        state = self._state
        if self._rounds_since_checkpoint > 0:
            await self._checkpoint(self._jobs.plan.stages[state.stage_index])
        await self._jobs.command(CommandKind.STOP, version=state.version)
        self._jobs.metrics.write("run_left", version=state.version)
        return True

    async def _checkpoint_if_due(self, stage: StagePlan) -> None:
        self._rounds_since_checkpoint += 1
        every = self._jobs.plan.checkpoint.every_rounds
        if self._rounds_since_checkpoint < every and not self._state.is_stage_finished:
            return
        await self._checkpoint(stage)

    async def _checkpoint(self, stage: StagePlan) -> None:
        self._rounds_since_checkpoint = 0
        rewards, self._rewards = self._rewards, []
        with self._jobs.timed("checkpoint_s"):
            reply = await self._jobs.command(
                CommandKind.CHECKPOINT,
                stage=stage.name,
                version=self._state.version,
                loop_state=state_to_json(self._state),
                score=fmean(rewards) if rewards else None,
            )
        self._jobs.metrics.write("checkpoint", version=self._state.version, seconds=reply.seconds)
