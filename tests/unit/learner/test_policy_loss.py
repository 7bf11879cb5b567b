"""The loss against a loop over tokens that follows the formulas one by one."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from e3mega.learner.logprobs import TokenScores
from e3mega.learner.policy_loss import LossInputs, LossTerms, SignSum, Sum, policy_loss
from e3mega.objective.correction import Correction, MaskedWeights, TruncatedWeights
from e3mega.objective.kl import Estimator, KlOptions
from e3mega.objective.options import EntropyOptions, LossOptions
from e3mega.objective.ratio import Level, NoRatio, TokenRatio

NUM_TOKENS = 40
NORMALIZER = 70.0
NONE, TOKEN = NoRatio(kind="none"), TokenRatio(kind="token")
CAPPED = TruncatedWeights(kind="truncated", max_weight=1.3)

VARIANTS = {
    "supervised": LossOptions(ratio=NONE),
    "clipped": LossOptions(ratio=TokenRatio(kind="token", clip_high=0.28)),
    "dual clip": LossOptions(ratio=TokenRatio(kind="token", dual_clip=1.5)),
    "entropy": LossOptions(entropy=EntropyOptions(coefficient=0.05)),
    "k1": LossOptions(kl=KlOptions(coefficient=0.3, estimator=Estimator.K1)),
    "k2": LossOptions(kl=KlOptions(coefficient=0.3, estimator=Estimator.K2)),
    "k3": LossOptions(kl=KlOptions(coefficient=0.3, estimator=Estimator.K3)),
    "corrected": LossOptions(correction=CAPPED),
    "corrected, no ratio": LossOptions(ratio=NONE, correction=CAPPED),
    "corrected by sequence": LossOptions(
        correction=TruncatedWeights(kind="truncated", level=Level.SEQUENCE)
    ),
    "masked": LossOptions(correction=MaskedWeights(kind="masked", min_weight=0.8, max_weight=1.4)),
    "masked by sequence": LossOptions(
        correction=MaskedWeights(kind="masked", level=Level.SEQUENCE, min_weight=0.05)
    ),
}


def _case() -> tuple[TokenScores, LossInputs]:
    generator = torch.Generator().manual_seed(3)

    def draw() -> torch.Tensor:
        return torch.randn(NUM_TOKENS, generator=generator, dtype=torch.float64)

    mask_T = (draw() > -0.5).double()
    mask_T[3] *= 4.0
    inputs = LossInputs(
        mask_T=mask_T,
        advantages_T=draw() * (mask_T > 0),
        rollout_logprobs_T=-3 + 0.5 * draw(),
        correct_T=(draw() > 0).double(),
        sequence_T=torch.arange(NUM_TOKENS) // 13,
        old_logprobs_T=-3 + 0.5 * draw(),
        reference_logprobs_T=-3 + 0.5 * draw(),
        normalizer=NORMALIZER,
    )
    logprobs_T = (-3 + 0.5 * draw()).requires_grad_()
    return TokenScores(logprobs_T, draw().abs(), 0.3 * torch.rand(NUM_TOKENS).double()), inputs


def _correction_weight(inputs: LossInputs, t: int, options: Correction) -> float:
    assert inputs.old_logprobs_T is not None
    tokens = [t]
    if options.level is Level.SEQUENCE:
        same = range(t // 13 * 13, min(NUM_TOKENS, t // 13 * 13 + 13))
        tokens = [other for other in same if inputs.mask_T[other] > 0]
    gaps = inputs.old_logprobs_T - inputs.rollout_logprobs_T
    weight = math.exp(sum(float(gaps[other]) for other in tokens))
    if isinstance(options, MaskedWeights):
        return weight if options.min_weight <= weight <= options.max_weight else 0.0
    return min(weight, options.max_weight)


def _token_loss(
    options: LossOptions, scores: TokenScores, inputs: LossInputs, t: int
) -> tuple[float, bool]:
    """The loss of one token before mask and normalizer, and whether it is clipped."""
    assert inputs.old_logprobs_T is not None and inputs.reference_logprobs_T is not None
    logprob, advantage = float(scores.logprobs_T[t].detach()), float(inputs.advantages_T[t])
    ratio, is_clipped = math.exp(logprob - float(inputs.old_logprobs_T[t])), False
    if isinstance(options.ratio, NoRatio):
        value = advantage * logprob
    elif advantage >= 0:
        assert isinstance(options.ratio, TokenRatio)
        value = advantage * min(ratio, 1 + options.ratio.clip_high)
        is_clipped = ratio > 1 + options.ratio.clip_high and advantage > 0
    else:
        assert isinstance(options.ratio, TokenRatio)
        value = advantage * max(ratio, 1 - options.ratio.clip_low)
        is_clipped = ratio < 1 - options.ratio.clip_low
        if options.ratio.dual_clip is not None and ratio > options.ratio.dual_clip:
            value, is_clipped = advantage * options.ratio.dual_clip, True
    if options.correction is not None:
        value *= _correction_weight(inputs, t, options.correction)
    loss = -value
    if options.entropy is not None:
        loss -= options.entropy.coefficient * float(scores.entropy_T[t])
    if options.kl is not None:
        gap = logprob - float(inputs.reference_logprobs_T[t])
        estimate = {"k1": gap, "k2": gap * gap / 2, "k3": math.exp(-gap) - 1 + gap}
        loss += options.kl.coefficient * estimate[options.kl.estimator.value]
    return loss, is_clipped


def _loss(scores: TokenScores, inputs: LossInputs, options: LossOptions) -> LossTerms:
    return policy_loss(scores, inputs, options, temperature=0.8)


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_clip_follow_the_formulas(name: str) -> None:
    options = VARIANTS[name]
    scores, inputs = _case()
    total, num_clipped = 0.0, 0
    for t in range(NUM_TOKENS):
        loss, is_clipped = _token_loss(options, scores, inputs, t)
        total += float(inputs.mask_T[t]) * loss
        num_clipped += is_clipped and float(inputs.mask_T[t]) > 0
    terms = _loss(scores, inputs, options)
    assert float(terms.loss) == pytest.approx(total / NORMALIZER, rel=1e-12)
    assert terms.sums[Sum.LOSS] == pytest.approx(total / NORMALIZER, rel=1e-12)
    assert terms.sums[Sum.CLIPPED] == num_clipped
    if isinstance(options.ratio, TokenRatio):
        assert num_clipped > 3, "the case exercises the clip"


def test_the_gradient_on_policy_is_that_of_the_log_probability() -> None:
    scores, inputs = _case()
    _loss(scores, replace(inputs, old_logprobs_T=None), VARIANTS["clipped"]).loss.backward()
    wanted = -inputs.mask_T * inputs.advantages_T / NORMALIZER
    torch.testing.assert_close(scores.logprobs_T.grad, wanted)


def test_metrics_count_each_trained_token_once() -> None:
    scores, inputs = _case()
    sums = _loss(scores, inputs, VARIANTS["k3"]).sums.numpy()
    trains = inputs.mask_T.numpy() > 0
    correct = trains & (inputs.correct_T.numpy() > 0)
    entropy = scores.entropy_T.numpy()
    assert inputs.reference_logprobs_T is not None
    gap = (scores.logprobs_T.detach() - inputs.reference_logprobs_T).numpy()
    assert sums[Sum.TOKENS] == trains.sum()
    assert sums[Sum.CORRECT_TOKENS] == correct.sum()
    np.testing.assert_allclose(sums[Sum.ENTROPY], entropy[trains].sum(), rtol=1e-6)
    np.testing.assert_allclose(sums[Sum.CORRECT_ENTROPY], entropy[correct].sum(), rtol=1e-6)
    np.testing.assert_allclose(sums[Sum.KL], (np.exp(-gap) - 1 + gap)[trains].sum(), rtol=1e-6)


def test_the_signs_share_the_policy_s_loss() -> None:
    scores, inputs = _case()
    options = VARIANTS["dual clip"]
    terms = _loss(scores, inputs, options)
    rows = terms.sign_sums.numpy()
    advantages, trains = inputs.advantages_T.numpy(), inputs.mask_T.numpy() > 0
    for row, sign in zip(rows, (1, -1), strict=True):
        own = trains & (advantages * sign > 0)
        assert row[SignSum.TOKENS] == own.sum()
        np.testing.assert_allclose(row[SignSum.ADVANTAGE], advantages[own].sum(), rtol=1e-12)
    assert rows[:, SignSum.LOSS].sum() == pytest.approx(float(terms.loss), rel=1e-12)
    assert rows[:, SignSum.CLIPPED].sum() == terms.sums[Sum.CLIPPED]
    assert len(terms.ratios_R) == trains.sum()


def test_the_norm_at_the_logits_is_the_one_of_backpropagation() -> None:
    temperature, num_words = 0.7, 11
    generator = torch.Generator().manual_seed(0)
    _, inputs = _case()
    logits_TV = torch.randn(NUM_TOKENS, num_words, generator=generator, dtype=torch.float64)
    logits_TV.requires_grad_()
    table_TV = (logits_TV / temperature).log_softmax(-1)
    targets_T = torch.randint(0, num_words, (NUM_TOKENS,), generator=generator)
    logprobs_T = table_TV.gather(1, targets_T[:, None])[:, 0]
    scores = TokenScores(logprobs_T, -table_TV[:, 0], (table_TV.detach().exp() ** 2).sum(1))
    inputs = replace(inputs, old_logprobs_T=logprobs_T.detach() + 0.1)
    terms = policy_loss(scores, inputs, VARIANTS["clipped"], temperature=temperature)
    (gradient_TV,) = torch.autograd.grad(terms.loss, logits_TV)
    squares_T = (gradient_TV**2).sum(1)
    for row, sign in zip(terms.sign_sums, (1, -1), strict=True):
        wanted = squares_T[inputs.advantages_T * sign > 0].sum()
        assert float(row[SignSum.LOGIT_GRADIENT]) == pytest.approx(float(wanted), rel=1e-10)
