"""Holds the rounds of a stage against the caps before they begin."""

from collections.abc import Iterable, Mapping

from e3mega.curriculum.options import StepsExit
from e3mega.loop.accounts import check_intent
from e3mega.loop.jobs import Jobs
from e3mega.loop.requests import amount
from e3mega.loop.rounds import RoundData, num_steps
from e3mega.loop.state import LoopState
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.ledger import Intent
from e3mega.spec.schema.curriculum import StageMode


def check_round_caps(
    jobs: Jobs,
    state: LoopState,
    stage: StagePlan,
    *,
    coming: Mapping[int, int],
    ahead: Mapping[int, RoundData],
) -> None:
    """E3Error when the rounds that are about to be generated could pass a cap.

    ``coming`` holds their budgets by round; ``ahead`` the rounds that were sampled and not yet
    trained on, which no ledger holds either. A stage that may end early drops, at worst, all
    rounds but the one that comes next.
    """
    if not coming:
        return
    rounds = {number: _most(stage, number, budget) for number, budget in coming.items()}
    rounds |= {number: _known(data) for number, data in ahead.items()}
    ends_early = stage.mode is StageMode.RL and not isinstance(stage.exit, StepsExit)
    dropped = sum(
        each.generated if ends_early and number > state.stage_round else each.discarded
        for number, each in rounds.items()
    )
    intent = Intent(
        generated=sum(each.generated for each in rounds.values()),
        trained=sum(each.trained for each in rounds.values()),
        discarded=dropped,
    )
    check_intent(jobs, state, stage, intent)


def num_sampled_tokens(rounds: Iterable[RoundData]) -> int:
    """Completion tokens that the tier gave for these rounds."""
    return sum(amount(data.groups).tokens for data in rounds)


def _most(stage: StagePlan, stage_round: int, budget_tokens: int) -> Intent:
    """What a round takes when every completion has its whole budget."""
    rollout, rule = stage.rollout, stage.loss.dynamic_sampling
    prompts = rollout.prompts_per_step * num_steps(stage, stage_round)
    tokens = prompts * rollout.samples_per_prompt * budget_tokens
    if stage.mode is StageMode.SUPERVISED:
        return Intent(trained=tokens)
    refills = 0 if rule is None else rule.max_refills
    return Intent(generated=tokens * (1 + refills), trained=tokens, discarded=tokens * refills)


def _known(data: RoundData) -> Intent:
    """What a round takes that has been sampled."""
    trained = sum(
        len(each.token_ids) - each.num_prompt_tokens
        for step in data.steps
        for each in step.sequences
    )
    generated, kept = amount(data.groups).tokens, amount(data.kept).tokens
    return Intent(generated=generated, trained=trained, discarded=generated - kept)
