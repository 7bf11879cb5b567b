"""Turns prompts into finished groups under one version, for training and for measurements."""

from collections.abc import Sequence

from e3mega.loop.accounts import check_intent
from e3mega.loop.jobs import Jobs
from e3mega.loop.state import LoopState
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.buffer import GroupStore
from e3mega.rollout.ledger import Amount, Intent, Ledger
from e3mega.rollout.records import FinishReason, Group, GroupRequest, Purpose
from e3mega.rollout.sampler import SampledRound
from e3mega.rollout.seeds import group_seed
from e3mega.tasks.interface import Prompt


async def measure_prompts(
    jobs: Jobs,
    stage: StagePlan,
    state: LoopState,
    prompts: Sequence[Prompt],
    *,
    purpose: Purpose,
    num_samples: int,
    max_tokens: int,
    ahead_tokens: int = 0,
) -> tuple[LoopState, tuple[Group, ...]]:
    """Groups of a measurement at the state's version, and the state with them in its ledger.

    ``ahead_tokens`` were generated for rounds that the ledger does not hold yet.
    """
    most = len(prompts) * num_samples * max_tokens
    intent = Intent(generated=ahead_tokens + most, evaluated=most)
    check_intent(jobs, state, stage, intent)
    sampled = await generate_groups(
        jobs,
        stage,
        prompts,
        purpose=purpose,
        stage_round=0,
        num_samples=num_samples,
        max_tokens=max_tokens,
        version=state.version,
    )
    state = state.counted(
        stage.name, lambda ledger: count_groups(ledger, sampled).evaluate(amount(sampled.groups))
    )
    return state, sampled.groups


async def generate_groups(
    jobs: Jobs,
    stage: StagePlan,
    prompts: Sequence[Prompt],
    *,
    purpose: Purpose,
    stage_round: int,
    num_samples: int,
    max_tokens: int,
    version: int,
) -> SampledRound:
    """Finished groups of the prompts; those already on disk are read, not generated.

    Waits for the servers; the caller has brought them to ``version``. Seeds derive from run,
    purpose, stage, version, round and prompt, so a group generated again is the same group.
    """
    requests = [
        GroupRequest(
            index=index,
            prompt=prompt,
            num_samples=num_samples,
            max_tokens=max_tokens,
            temperature=stage.generation.temperature,
            # The learner's log-probabilities are those of the whole distribution.
            top_p=1.0,
            top_k=0,
            seed=group_seed(
                run_seed=jobs.plan.seed,
                purpose=purpose,
                stage_index=stage.index,
                round=stage_round,
                prompt_index=index,
                num_samples=num_samples,
            ),
            version=version,
        )
        for index, prompt in enumerate(prompts)
    ]
    # A stage's measurements before and after it are made under different versions.
    is_measured = purpose not in (Purpose.TRAIN, Purpose.REFILL)
    name = f"{stage.name}_v{version:06d}" if is_measured else stage.name
    store = GroupStore(
        jobs.paths,
        purpose=purpose,
        stage=name,
        round=stage_round,
        text=jobs.tasks[stage.index].text,
    )
    return await jobs.sampler(stage.index).sample(requests, store)


def count_groups(ledger: Ledger, sampled: SampledRound) -> Ledger:
    """The ledger after the groups were asked for and came back."""
    lengths = [
        len(r.completion.token_ids)
        for group in sampled.groups
        for r in group.rollouts
        if r.completion.finish_reason is FinishReason.LENGTH
    ]
    truncated = Amount(len(lengths), sum(lengths))
    return (
        ledger.redraw(sampled.num_redrawn)
        .issue(len(sampled.groups))
        .answer(len(sampled.groups), amount(sampled.groups), truncated=truncated)
        .reuse(sampled.num_reused)
    )


def amount(groups: Sequence[Group]) -> Amount:
    """Rollouts of the groups and their completion tokens."""
    lengths = [len(r.completion.token_ids) for group in groups for r in group.rollouts]
    return Amount(len(lengths), sum(lengths))
