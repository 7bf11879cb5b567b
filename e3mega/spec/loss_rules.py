"""Rules about the parts of a stage's ``loss``, one small function each."""

from collections.abc import Iterator
from itertools import pairwise

from e3mega.families.geometry import Precision
from e3mega.objective.advantage import (
    BatchWhitened,
    Constant,
    FixedBaseline,
    MaximumLikelihood,
    PassAtK,
    ShiftedMean,
    VirtualBest,
    WhitenBaseline,
)
from e3mega.objective.credit import Uniform
from e3mega.objective.kl import MovingReference
from e3mega.objective.ratio import Level, NoRatio, SequenceRatio, TokenRatio, TruncatedRatio
from e3mega.objective.reduction import TokenMean
from e3mega.objective.sign_rule import Keep, NthrTokens
from e3mega.objective.truncation import KeepTruncated, SoftPenalty
from e3mega.options import SteppedSchedule
from e3mega.spec.findings import Finding
from e3mega.spec.stage_view import Rule, StageView

_PRECISION = ("model", "precision")
_FLAT_TRAINS = (FixedBaseline, ShiftedMean, VirtualBest)
"""Advantages under which a group of equal rewards has a gradient."""


def supervised_loss_is_supervised(view: StageView) -> Iterator[Finding]:
    """Given traces have neither rewards nor a sampling policy: all parts about those are off."""
    if view.is_rl:
        return
    loss, mode = view.stage.loss, (view.key("mode"),)
    fix = "give the stage replace: {loss: [loss/sft]}"
    if not isinstance(loss.advantage, Constant):
        yield Finding(view.key("loss", "advantage", "kind"), "constant for {0}", fix, mode)
    if not isinstance(loss.ratio, NoRatio):
        yield Finding(view.key("loss", "ratio", "kind"), "none for {0}", fix, mode)
    if loss.sign.keep is not Keep.ALL:
        yield Finding(view.key("loss", "sign", "keep"), "all for {0}", fix, mode)
    if not isinstance(loss.sign.truncated, KeepTruncated):
        key = view.key("loss", "sign", "truncated", "kind")
        yield Finding(key, "keep for {0}, whose traces are whole", fix, mode)
    if not isinstance(loss.credit, Uniform):
        need = "uniform for {0}, whose traces have no return to spread"
        yield Finding(view.key("loss", "credit", "kind"), need, fix, mode)
    if not isinstance(loss.reduction, TokenMean):
        need = "token_mean for {0}, whose traces weigh their tokens"
        yield Finding(view.key("loss", "reduction", "kind"), need, fix, mode)
    for side in ("positive", "negative"):
        if getattr(loss.sign, side).weight != 1.0:
            key = view.key("loss", "sign", side, "weight")
            yield Finding(key, "1 for {0}, whose traces are all positive", fix, mode)
    if loss.sign.negative.tokens is not None:
        key = view.key("loss", "sign", "negative", "tokens")
        yield Finding(key, "null for {0}, whose traces are all positive", fix, mode)
    for name in ("correction", "dynamic_sampling"):
        if getattr(loss, name) is not None:
            need = "null for {0}, which samples nothing"
            yield Finding(view.key("loss", name), need, fix, mode)


def rl_loss_uses_rewards(view: StageView) -> Iterator[Finding]:
    """An RL stage learns from rewards, and from groups where its baseline is one of a group."""
    if not view.is_rl:
        return
    advantage, mode = view.stage.loss.advantage, (view.key("mode"),)
    key = view.key("loss", "advantage", "kind")
    if isinstance(advantage, Constant):
        yield Finding(key, "a use of the rewards for {0}", "use group_mean or another", mode)
        return
    needs_group = not isinstance(advantage, FixedBaseline | VirtualBest) and not (
        isinstance(advantage, BatchWhitened) and advantage.baseline is WhitenBaseline.NONE
    )
    if needs_group and view.stage.rollout.samples_per_prompt < 2:
        samples = view.key("rollout", "samples_per_prompt")
        yield Finding(samples, "at least 2, for {0} compares within groups", "use 8", (key,))


def pass_at_k_has_k_samples(view: StageView) -> Iterator[Finding]:
    """The k of pass@k is a number of samples of one group."""
    advantage = view.stage.loss.advantage
    samples = view.key("rollout", "samples_per_prompt")
    if isinstance(advantage, PassAtK) and advantage.k > view.stage.rollout.samples_per_prompt:
        key = view.key("loss", "advantage", "k")
        yield Finding(key, "at most {0}", "lower k, or draw more samples", (samples,))


def rewards_stay_outcomes(view: StageView) -> Iterator[Finding]:
    """Advantages of success rates need rewards of 0 and 1; a length penalty makes others."""
    loss = view.stage.loss
    is_of_outcomes = isinstance(loss.advantage, PassAtK | MaximumLikelihood)
    if is_of_outcomes and isinstance(loss.sign.truncated, SoftPenalty):
        cites = (view.key("loss", "advantage", "kind"),)
        need = "keep or mask for {0}, which is defined for rewards of 0 and 1"
        yield Finding(view.key("loss", "sign", "truncated", "kind"), need, "use mask", cites)


def penalty_has_a_buffer(view: StageView) -> Iterator[Finding]:
    """The penalty grows over some tokens."""
    truncated = view.stage.loss.sign.truncated
    if isinstance(truncated, SoftPenalty) and truncated.buffer_frac == 0:
        key = view.key("loss", "sign", "truncated", "buffer_frac")
        yield Finding(key, "more than 0", "use 0.2, or kind: keep")


def weights_have_an_effect(view: StageView) -> Iterator[Finding]:
    """A sign that is dropped, or weighs nothing, has no settings; one of the two trains."""
    rule = view.stage.loss.sign
    keep = (view.key("loss", "sign", "keep"),)
    for side, dropped_by in (("positive", Keep.NEGATIVE), ("negative", Keep.POSITIVE)):
        key = view.key("loss", "sign", side, "weight")
        if rule.keep is dropped_by and getattr(rule, side).weight != 1.0:
            yield Finding(key, "1, since {0} drops these samples", "remove it", keep)
    tokens = view.key("loss", "sign", "negative", "tokens")
    if rule.negative.tokens is not None and rule.keep is Keep.POSITIVE:
        yield Finding(tokens, "null, since {0} drops these samples", "set it to null", keep)
    elif rule.negative.tokens is not None and rule.keep is Keep.NEGATIVE:
        need = "null, since {0} drops the right samples that tokens are judged by"
        yield Finding(tokens, need, "set it to null", keep)
    elif rule.negative.tokens is not None and rule.negative.weight == 0.0:
        cites = (view.key("loss", "sign", "negative", "weight"),)
        yield Finding(tokens, "null for {0}", "set it to null", cites)
    if isinstance(rule.negative.tokens, NthrTokens) and rule.negative.tokens.factor == 1.0:
        fix = "use 0.0, or set tokens to null"
        yield Finding((*tokens, "factor"), "less than 1, which takes nothing", fix)
    if rule.positive.weight == 0.0 and rule.negative.weight == 0.0:
        cites = (view.key("loss", "sign", "negative", "weight"),)
        key = view.key("loss", "sign", "positive", "weight")
        yield Finding(key, "more than 0, or {0} more than 0", "let one sign train", cites)


def schedules_are_whole(view: StageView) -> Iterator[Finding]:
    """A stepped schedule has a value for each of its steps, which ascend."""
    for side in ("positive", "negative"):
        weight = getattr(view.stage.loss.sign, side).weight
        if not isinstance(weight, SteppedSchedule):
            continue
        key = view.key("loss", "sign", side, "weight")
        steps = weight.at_steps
        if not steps or not all(a < b for a, b in pairwise(steps)):
            fix = "list at least one step, ascending, each once"
            yield Finding((*key, "at_steps"), "steps that ascend", fix)
        elif len(weight.values) != len(steps):
            cites = ((*key, "at_steps"),)
            yield Finding((*key, "values"), "one value for each of {0}", "list as many", cites)


def clips_are_in_range(view: StageView) -> Iterator[Finding]:
    """Clips leave the ratio 1 inside, and bounds are in order."""
    ratio = view.stage.loss.ratio
    if isinstance(ratio, TokenRatio | SequenceRatio) and ratio.clip_low >= 1:
        yield Finding(view.key("loss", "ratio", "clip_low"), "less than 1", "use 0.2")
    if isinstance(ratio, TokenRatio) and ratio.dual_clip is not None:
        cites = (view.key("loss", "ratio", "clip_high"),)
        if ratio.dual_clip <= 1 + ratio.clip_high:
            key = view.key("loss", "ratio", "dual_clip")
            yield Finding(key, "more than 1 + {0}", "use 3.0", cites)
    if isinstance(ratio, TruncatedRatio):
        for side in ("positive", "negative"):
            if getattr(ratio, side).min > getattr(ratio, side).max:
                cites = (view.key("loss", "ratio", side, "max"),)
                key = view.key("loss", "ratio", side, "min")
                yield Finding(key, "at most {0}", "lower it", cites)


def staleness_is_corrected(view: StageView) -> Iterator[Finding]:
    """Rollouts of an older version need an off-policy correction."""
    loss = view.stage.loss
    is_stale = view.is_rl and view.stage.rollout.max_lag > 0
    # AsymRE: no ratio, and a baseline below the mean; its guarantee holds off policy.
    is_made_for_it = (
        isinstance(loss.ratio, NoRatio)
        and isinstance(loss.advantage, ShiftedMean)
        and loss.advantage.shift < 0
    )
    if is_stale and loss.correction is None and not is_made_for_it:
        fix = "set loss.correction: {kind: truncated}, or rollout.max_lag: 0"
        cites = (view.key("rollout", "max_lag"),)
        yield Finding(view.key("loss", "correction"), "a correction for {0}", fix, cites)


def flat_groups_are_worthless(view: StageView) -> Iterator[Finding]:
    """Dynamic sampling drops groups of equal rewards: under the advantage they teach nothing."""
    loss = view.stage.loss
    if loss.dynamic_sampling is not None and isinstance(loss.advantage, _FLAT_TRAINS):
        cites = (view.key("loss", "advantage", "kind"),)
        need = "null for {0}, under which groups of equal rewards have a gradient"
        yield Finding(view.key("loss", "dynamic_sampling"), need, "set it to null", cites)


def reference_moves_between_rounds(view: StageView) -> Iterator[Finding]:
    """The reference moves, and between rounds: its log-probabilities are computed once a round."""
    kl = view.stage.loss.kl
    if kl is None or not isinstance(kl.reference, MovingReference):
        return
    if kl.reference.mix == 0.0:
        need = "more than 0, by which the reference never moves"
        key = view.key("loss", "kl", "reference", "mix")
        yield Finding(key, need, "use 1.0, or reference: {kind: stage}")
    elif kl.reference.mix < 1.0 and view.options.model.precision is not Precision.FLOAT32:
        # It is kept in the model's precision: a part of a step's change rounds to none.
        key = view.key("loss", "kl", "reference", "mix")
        yield Finding(key, "1.0 for {0}, in which small moves are lost", "use 1.0", (_PRECISION,))
    per_round = view.stage.rollout.steps_per_round
    if kl.reference.every_steps % per_round:
        key = view.key("loss", "kl", "reference", "every_steps")
        fix = f"use {-(-kl.reference.every_steps // per_round) * per_round}"
        yield Finding(key, "a multiple of {0}", fix, (view.key("rollout", "steps_per_round"),))


def whole_sequences_lie_on_one_rank(view: StageView) -> Iterator[Finding]:
    """Ratios, weights and scores of whole sequences are not computed across context ranks."""
    loss, cp = view.stage.loss, view.stage.layout.learner.cp
    cites = (view.key("layout", "learner", "cp"),)
    names: list[tuple[str, ...]] = []
    if isinstance(loss.ratio, SequenceRatio):
        names.append(("ratio", "kind"))
    for name in ("ratio", "correction"):
        if getattr(getattr(loss, name), "level", None) is Level.SEQUENCE:
            names.append((name, "level"))
    if loss.sign.negative.tokens is not None:
        names.append(("sign", "negative", "tokens"))
    for name in names if cp > 1 else ():
        need = "a loss of single tokens for {0}, which divides sequences among ranks"
        yield Finding(view.key("loss", *name), need, "use cp: 1", cites)


LOSS_RULES: tuple[Rule, ...] = (
    supervised_loss_is_supervised,
    rl_loss_uses_rewards,
    pass_at_k_has_k_samples,
    rewards_stay_outcomes,
    penalty_has_a_buffer,
    weights_have_an_effect,
    schedules_are_whole,
    clips_are_in_range,
    staleness_is_corrected,
    flat_groups_are_worthless,
    reference_moves_between_rounds,
    whole_sequences_lie_on_one_rank,
)
